#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Row 10 of the fault table: the destination stops reading and answering in the bulk
# pass, and in the pause.  The guest goes on, in the pause when that has lasted as long
# as it may; it is said; and when the destination goes on, so does the migration.  (In
# sync, and when it is connected to: test-silent-destination; while it is mirrored to:
# test-mirror; after a pivot: test-relay-matrix.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/faults.sh
source "$SRCDIR/tests/faults.sh"
requires nbdkit jq

start_row 4M
echo "-- in the bulk pass"
start_migrate --finish=detach --rate=4M "$(uri proxy)" "$(uri destination)"
wait_for has_status "$(uri proxy)" '.progress.phase == "bulk"'
kill_bg destination STOP
guest_goes_on guest 200
wait_for has_status "$(uri proxy)" '.progress.silent == "destination"'
must_have_status "$(uri proxy)" '.session and .owner == "source"'
kill_bg destination CONT
"$nbdmigrate" set "$(uri proxy)" rate=0
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
verify_cut guest "$(uri destination)" > "$tmp/verdict"

echo "-- in the pause"
in_pause --finish=pivot --max-pause=4s
kill_bg destination STOP
kill_bg migrator CONT
wait_for has_status "$(uri proxy)" '.gate == "open" and .gates_expired > 0'
guest_goes_on guest 200
must_have_status "$(uri proxy)" '.owner == "source"'
kill_bg destination CONT
cue destination
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
is_at_destination
