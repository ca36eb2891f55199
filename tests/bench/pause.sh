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
measure_part pause "cut-overs of" 5 "${PAUSE_SIZE:-256M}" \
  "idle random-20 random-60 sequential"
