#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Row 8 of the fault table: the destination is killed (-9) between the last flush of
# the pause and the commit, that is when the proxy has asked for the owner to be
# recorded and it is not.  The commit counts: the guest waits until the destination is
# back.  (In the passes: test-reconnect; in the pause: test-reconnect-pause; after a
# pivot: test-pivot-lost-destination.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/faults.sh
source "$SRCDIR/tests/faults.sh"
requires nbdkit jq

LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy.dir \
  CRASH_HOW=hang CRASH_AT=1 CRASH_ARM=$tmp/armed CRASH_GO=$tmp/go \
  CRASH_LOG=$tmp/steps start_row 2M
wait_in_sync --finish=pivot --max-pause=4s
touch "$tmp/armed"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_for is_file "$tmp/steps"
crash_bg destination
touch "$tmp/go"
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
tail -n 1 "$tmp/migrator.log" | grep -q 'destination .* authoritative'
must_have_status "$(uri proxy)" '.owner == "destination" and (.relay.up | not)'
start_late destination volatile=1
is_at_destination
