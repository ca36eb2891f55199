#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# converge.sh: a disk is moved under a guest that writes much: does it end, with
# how many bytes sent, how long does it take, what does the guest get meanwhile,
# and how long does it wait; against blockdev-mirror of qemu-storage-daemon, in
# turn and in random order.
#
#   ROUNDS=N        (default 3)
#   SIZE=SIZE       of the disk (default 2G)
#   LOADS='...'     (loads.sh; default: random-20 random-60 random sequential hot)
#   PROGRAMS='...'  (move.sh; default: nbdmigrate mirror-write-blocking)
#   ADD=1           add to the runs that OUT has from before
#   OUT=DIR         default build/bench

set -euo pipefail

# shellcheck source=tests/bench/move.sh
source "${SRCDIR:-.}/tests/bench/move.sh"
out=${OUT:-$BUILD/bench}
mkdir -p "$out"
runs=$out/converge.jsonl
rounds=${ROUNDS:-3}
read -r -a loads <<< "${LOADS:-random-20 random-60 random sequential hot}"
# shellcheck disable=SC2086 # words
installed ${PROGRAMS:-nbdmigrate mirror-write-blocking}

echo "== converge: $rounds moves by ${programs[*]} under ${loads[*]}"
[ -n "${ADD:-}" ] || rm -f "$runs"
prepare_disk "${SIZE:-2G}"
for ((round = 0; round < rounds; round++)); do
  measure_round "$round" "$runs"
done
"$SRCDIR/tests/bench/report-converge.sh" "$out"
