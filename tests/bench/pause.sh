#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# pause.sh: the longest wait of a guest's request at a cut-over, by the guest's
# own clock, for a pivot and for job-complete of qemu-storage-daemon's
# blockdev-mirror, in turn and in random order.  Of a request that was under way
# at any time from the first try to cut over (or job-complete) until that was
# known to be done, all of its time counts.  With "after" until 50 ms later, and
# as "control" in a window as long as that before the move.
#
#   ROUNDS=N         cut-overs of each program under each load (default 5)
#   PAUSE_SIZE=SIZE  of the disk (default 256M)
#   LOADS='...'      (loads.sh; default: idle random-20 random-60 sequential)
#   PROGRAMS='...'   (move.sh; default: nbdmigrate mirror-write-blocking; mirror
#                    does not end under some loads)
#   OPTIONS='...'    more of nbdmigrate
#   ADD=1            add to the runs that OUT has from before
#   SECONDS_MAX=N    begin no round after so many seconds
#   OUT=DIR          default build/bench

set -euo pipefail

# shellcheck source=tests/bench/move.sh
source "${SRCDIR:-.}/tests/bench/move.sh"
measure_part pause "cut-overs of" 5 "${PAUSE_SIZE:-256M}" \
  "idle random-20 random-60 sequential"
