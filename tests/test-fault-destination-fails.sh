#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Row 6 of the fault table: the destination is full, or fails, in the pause and while
# guests' writes are mirrored: the guest notices nothing, and once that is settled the
# copy is right.  (In the bulk and the dirty passes: test-faults.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
# shellcheck source=tests/faults.sh
source "$SRCDIR/tests/faults.sh"
requires nbdkit jq

start_row 2M
echo "-- it is full in the pause"
in_pause --finish=pivot
cue destination 'write,zero,flush fail errno=ENOSPC'
kill_bg migrator CONT
failed_with 'No space left on device'
works_again
stop_guest guest > "$tmp/guest.report"
verify_final guest "$(uri proxy)" > "$tmp/verdict"
end_bg proxy
end_bg destination

echo "-- it fails while it is mirrored to"
below=(--filter=rate) proxy_options=("${outrun_source[@]}")
start_row $outrun_bytes "${outrun_guest[@]}"
start_migrate --wait --finish=detach --converge=mirror "${outrun_copy[@]}" \
  "$(uri proxy)" "$(uri destination)"
wait_for mirrored_more_than 0
cue destination 'write,zero,flush fail'
failed_with 'Input/output error'
must_have_status "$(uri proxy)" '.mirror.state == "off"'
# It would not converge now without the mirror.
stop_guest guest > "$tmp/guest.report"
cue destination
must_migrate --finish=detach --max-pause=4s "$(uri proxy)" "$(uri destination)"
verify_final guest "$(uri destination)" > "$tmp/verdict"
