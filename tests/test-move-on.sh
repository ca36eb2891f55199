#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The same proxy moves its disk on: after a pivot its destination is the source
# of the next migration.  One guest session goes on through three pivots, a
# detach with its --incremental, and runs that are interrupted; all that was
# acknowledged is where the disk is, and a server that was left has no client
# any more.  After a handover from a remote source the disk can be taken back to
# there.  The proxy is started anew in between, without what its plugin had.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((16 * 1024 * 1024))
P=$(uri proxy)

# serve NAME: an empty disk.
serve ()
{
  truncate -s $size "$tmp/$1"
  start_nbdkit "$1" file "$tmp/$1"
}

# disk_is SOURCE DESTINATION OWNER: names of servers, or null.
disk_is ()
{
  local from=null to=null

  [ "$1" = null ] || from="\"$(uri "$1")\""
  [ "$2" = null ] || to="\"$(uri "$2")\""
  must_have_status "$tmp/proxy.dir" \
        ".source == $from and .destination == $to and .owner == \"$3\""
}

# place_is NAME: of a server, as people are told.
place_is ()
{
  "$nbdmigrate" status "$tmp/proxy.dir" > "$tmp/status"
  grep -qx "place        $(uri "$1")" "$tmp/status" ||
    fail "the disk is not at $1: $(cat "$tmp/status")"
}

# The plugin is not needed any more.
restart_proxy ()
{
  end_bg proxy
  start_proxy proxy -v null size=$size
}

truncate -s $size "$tmp/local"
start_proxy proxy file "$tmp/local"
serve a
serve b
serve c
fill "$P" 50
start_guest guest "$P" --initial "$pattern" --rate 4M

echo "-- three pivots"
must_migrate "$P" "$(uri a)"
guest_goes_on guest
disk_is null a destination
must_migrate "$P" "$(uri b)"
guest_goes_on guest
disk_is a b destination
end_bg a
must_migrate "$P" "$(uri c)"
guest_goes_on guest
end_bg b
disk_is b c destination
place_is c
! grep -q '^source\|^destination' "$tmp/status" ||
  fail "nothing is being moved: $(cat "$tmp/status")"

echo "-- it is not moved to where it is, whatever the name"
stays ()
{
  grep -qF "is at $(uri c) already" "$tmp/migrate.log" ||
    fail "$(cat "$tmp/migrate.log")"
  tail -n 1 "$tmp/migrate.log" | grep -qF "stays at $(uri c), which is auth" ||
    fail "$(cat "$tmp/migrate.log")"
}
expect_status 1 migrate "$P" "$(uri c)"
stays
ln -s c.sock "$tmp/alias.sock"
expect_status 1 migrate "$P" "$(uri alias)"
stays
guest_goes_on guest
disk_is b c destination

echo "-- a move that is refused leaves no trace"
start_nbdkit single --filter=limit memory $size limit=1
expect_status 1 migrate "$P" "$(uri single)"
grep -q 'cannot go on there' "$tmp/migrate.log"
disk_is b c destination
must_have_status "$P" '.last_end == "pivoted" and .tracking == false'
guest_goes_on guest
end_bg single

echo "-- where it was before nothing is taken for zero, whatever is promised"
start_nbdkit a file "$tmp/a"
must_migrate --finish=detach --destination-is-zero "$P" "$(uri a)"
verify_cut guest "$(uri a)" --initial "$pattern"
disk_is c a source

echo "-- a run that is interrupted leaves it where it is, and is gone on with"
serve d
start_migrate --wait "$P" "$(uri d)"
wait_for is_ready
disk_is c d source
place_is c
kill_bg migrator KILL
expect_status 137 wait_bg migrator
wait_for has_status "$P" '.session == false'
guest_goes_on guest
disk_is c d source

echo "-- detach, and what was written since"
must_migrate --finish=detach "$P" "$(uri d)"
[ "$(completed resumed)" = true ]
guest_goes_on guest
disk_is c d source
must_migrate --finish=detach --incremental "$P" "$(uri d)"
[ "$(completed resumed)" = true ] || fail "everything was copied again"
verify_cut guest "$(uri d)" --initial "$pattern"
stop_guest guest
verify_final guest "$(uri c)"
verify_final guest "$P"

echo "-- started anew in the middle"
restart_proxy
disk_is c d source
start_guest again "$P" --initial any --rate 4M
must_have_status "$P" .relay.up
must_migrate "$P" "$(uri d)"
guest_goes_on again
end_bg c
disk_is c d destination
stop_guest again
verify_final again "$(uri d)"

echo "-- a handover, and back"
restart_proxy
disk_is c d destination
serve e
start_guest third "$P" --initial any --rate 4M --expect-shutdown
must_migrate --finish=handover "$P" "$(uri e)"
wait_bg third || fail "the guest ended with exit status $?"
verify_final third "$(uri e)"
disk_is d e fenced
restart_proxy
expect_status 1 nbdcopy "$P" null: 2> "$tmp/fence.log"
disk_is d e fenced
"$nbdmigrate" reopen "$tmp/proxy.dir"
disk_is d e source
verify_final third "$P"
start_guest fourth "$P" --initial any --rate 4M

echo "-- the source's address can change, too"
crash_bg d
start_nbdkit f file "$tmp/d"
"$nbdmigrate" reopen "$tmp/proxy.dir" destination="$(uri f)"
guest_goes_on fourth
disk_is f e source
stop_guest fourth
verify_final fourth "$(uri f)"
end_bg proxy
