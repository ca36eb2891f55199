#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# pause.sh: the longest wait of a guest's request at a cut-over, by the guest's
# own clock, for a pivot and for job-complete of qemu-storage-daemon's
# blockdev-mirror, in turn and in random order.  Of a request that was under way
# at any time from the first try to cut over (or job-complete) until 50 ms after
# the end of the program, all of its time counts.
#
#   ROUNDS=N         cut-overs of each program under each load (default 5)
#   PAUSE_SIZE=SIZE  of the disk (default 256M)
#   LOADS='...'      (loads.sh; default: idle random-20 random-60 sequential)
#   PROGRAMS='...'   (move.sh; default: nbdmigrate mirror-write-blocking; mirror
#                    does not end under some loads)
#   ADD=1            add to the runs that OUT has from before
#   OUT=DIR          default build/bench

set -euo pipefail

# shellcheck source=tests/bench/move.sh
source "${SRCDIR:-.}/tests/bench/move.sh"
out=${OUT:-$BUILD/bench}
mkdir -p "$out"
runs=$out/pause.jsonl
rounds=${ROUNDS:-5}
read -r -a loads <<< "${LOADS:-idle random-20 random-60 sequential}"
# shellcheck disable=SC2086 # words
installed ${PROGRAMS:-nbdmigrate mirror-write-blocking}

echo "== pause: $rounds cut-overs of ${programs[*]} under ${loads[*]}"
[ -n "${ADD:-}" ] || rm -f "$runs"
prepare_disk "${PAUSE_SIZE:-256M}"
for ((round = 0; round < rounds; round++)); do
  measure_round "$round" "$runs"
done
"$SRCDIR/tests/bench/report-pause.sh" "$out"
