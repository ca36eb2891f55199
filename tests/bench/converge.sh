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
#   SECONDS_MAX=N   begin no round after so many seconds
#   OUT=DIR         default build/bench

set -euo pipefail

# shellcheck source=tests/bench/move.sh
source "${SRCDIR:-.}/tests/bench/move.sh"
measure_part converge "moves by" 3 "${SIZE:-2G}" \
  "random-20 random-60 random sequential hot"
