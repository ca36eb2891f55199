#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --wait: the migration stays ready, both sides in sync, until `finish` ends it
# by the planned or another mode, `cancel` gives it up, or something breaks; and
# what `reopen` may do.  (Several disks: test-steering.)
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((8 * 1024 * 1024 + 512))
truncate -s $size "$tmp/source" "$tmp/destination"

still_ready ()
{
  is_running "${pids[migrator]}" || fail "the migrator ended early"
  is_ready
}

# wait_ready ARGUMENT...: start, until it is ready.
wait_ready ()
{
  start_migrate --wait --reconnect=1s "$@" "$(uri proxy)" "$(uri destination)"
  wait_for still_ready
}

resumed ()
{
  event 'map(select(.event == "started")) | last | .disks[0].resumed'
}

start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
fill "$(uri proxy)" 50
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 2M

echo "-- ready, and in sync"
wait_ready --finish=detach
"$nbdmigrate" status "$(uri proxy)" | tee "$tmp/status"
grep -q '^progress .*ready in sync' "$tmp/status"
grep -q "^finish  *detach, when 'nbdmigrate finish'" "$tmp/status"
must_have_status "$(uri proxy)" '.progress.wait'
guest_goes_on guest 100
wait_for still_ready
stop_guest guest
wait_for has_status "$(uri proxy)" \
  '.remaining_bytes == 0 and .unflushed_bytes == 0'
still_ready
cmp "$tmp/source" "$tmp/destination"
expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" 2> "$tmp/reopen.log"
grep -q 'migration of this disk is running' "$tmp/reopen.log"

echo "-- finish, as planned"
start_guest guest "$(uri proxy)" --resume --rate 2M
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(completed finish)" = detach ]
verify_cut guest "$(uri destination)"
"$nbdmigrate" reopen "$(uri proxy)" # it is the owner, so nothing happens
must_have_status "$(uri proxy)" '.last_end == "detached"'

echo "-- cancel"
wait_ready --incremental
[ "$(resumed)" = true ]
"$nbdmigrate" cancel "$(uri proxy)"
expect_status 3 wait_bg migrator
must_have_status "$(uri proxy)" \
  '.tracking == false and .session == false and .owner == "source"'
guest_goes_on guest

echo "-- cancel, while the migrator is stopped"
wait_ready
[ "$(resumed)" = false ]
kill_bg migrator STOP
touch "$tmp/hurry"
hurried 5 "$nbdmigrate" cancel "$(uri proxy)"
must_have_status "$(uri proxy)" '.tracking == false and .session == false'
guest_goes_on guest
kill_bg migrator CONT
expect_status 1 wait_bg migrator

echo "-- SIGTERM, SIGKILL, and the next one goes on"
wait_ready
kill_bg migrator TERM
expect_status 3 wait_bg migrator
wait_ready
[ "$(resumed)" = true ]
crash_bg migrator
wait_for has_status "$(uri proxy)" '.session == false'
wait_ready
[ "$(resumed)" = true ]

echo "-- the destination is lost while there is nothing to copy"
kill_bg guest STOP
wait_for has_status "$(uri proxy)" \
  '.remaining_bytes == 0 and .unflushed_bytes == 0'
crash_bg destination
expect_status 1 wait_bg migrator
grep -q "keeping .* in sync: .*destination.sock broke" "$tmp/migrator.log"
kill_bg guest CONT
start_nbdkit destination file "$tmp/destination"
wait_ready

echo "-- the destination is lost"
crash_bg destination
expect_status 1 wait_bg migrator
tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative'
guest_goes_on guest
start_nbdkit destination file "$tmp/destination"

echo "-- finish comes before it is ready, with another mode"
start_migrate --wait --finish=detach --digest --restart --rate=1M \
  "$(uri proxy)" "$(uri destination)"
wait_for has_status "$(uri proxy)" '.progress.phase == "bulk"'
must_have_status "$(uri proxy)" '.progress.wait'
"$nbdmigrate" finish --no-wait "$(uri proxy)" pivot
wait_for has_status "$(uri proxy)" '.progress | .phase == "bulk" and
  .finish == "pivot" and (.wait | not)' # it is told before the pass ends
"$nbdmigrate" set "$(uri proxy)" rate=0
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(completed finish)" = pivot ]
grep -q 'no digest: .* pivot' "$tmp/migrator.log" ||
  fail "it is not said that there is no digest"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri destination)"
expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" owner=source \
  2> "$tmp/reopen.log"
grep -q 'not up to date' "$tmp/reopen.log"
end_bg proxy

echo "-- that the guest was too fast while it waited does not end it later"
rm -r "$tmp/proxy.dir"
end_bg destination
start_proxy proxy memory $size
start_nbdkit destination --filter=rate memory $size rate=64M
fill "$(uri proxy)" 50
wait_ready --finish=detach --max-pause=50ms --converge=off
start_guest eager "$(uri proxy)" --initial "$pattern"
wait_for has_status "$(uri proxy)" \
  '.progress.pass >= 8 and .progress.phase == "dirty"'
stop_guest eager
wait_for has_status "$(uri proxy)" \
  '.progress.phase == "ready" and .remaining_bytes == 0'
kill_bg migrator STOP
fill "$(uri proxy)" 100
"$nbdmigrate" finish --no-wait "$(uri proxy)"
kill_bg migrator CONT
wait_bg migrator || fail "the migrator ended with exit status $?"
same_content "$(uri proxy)" "$(uri destination)"
end_bg proxy
