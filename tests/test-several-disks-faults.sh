#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 200
#
# All disks cut over, or none: a destination that dies, or an owner record that
# cannot be written, also when that shows only after the pause should have
# ended, leaves every guest on its source, and the next run goes on.  A crash in
# the middle of the records can leave some disks on one side and some on the
# other; each has one owner, `status` tells it, also while the proxy is down, and
# the manual's two ways to mend it work.
#
# What happens to the records is decided by tests/preload/crash.c, from the
# moment when $tmp/armed exists.  Who does not come back is waited for in a time
# that runs faster.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq qemu-io

size=$((4 * 1024 * 1024 + 512))
S1=$(uri proxy1) S2=$(uri proxy2)
D1=$(uri destination1) D2=$(uri destination2)

proxy_options=() # of both

# start_second VARIABLE=VALUE...: the proxy whose records will not be written
# as they should.
start_second ()
{
  local v

  rm -f "$tmp/armed" "$tmp/go"
  (($# == 0)) || export LD_PRELOAD=$BUILD/tests/crash-preload.so \
    CRASH_DIR=$tmp/proxy2.dir CRASH_ARM=$tmp/armed
  for v; do
    export "${v?}"
  done
  start_proxy proxy2 file "$tmp/source2" "${proxy_options[@]}"
  unset LD_PRELOAD "${!CRASH_@}"
}

# start_disks VARIABLE=VALUE...: fresh ones.
start_disks ()
{
  local i

  rm -rf "$tmp"/*.dir "$tmp"/*.record
  for i in 1 2; do
    truncate -s 0 "$tmp/source$i" "$tmp/destination$i"
    truncate -s $size "$tmp/source$i" "$tmp/destination$i"
    start_nbdkit destination$i file "$tmp/destination$i"
  done
  start_proxy proxy1 file "$tmp/source1" "${proxy_options[@]}"
  start_second "$@"
  fill_all 50 "$S1" "$S2"
}

stop_disks ()
{
  local name

  for name in proxy1 proxy2 destination1 destination2; do
    [ -z "${pids[$name]:-}" ] || end_bg $name
  done
}

owners ()
{
  echo "$(status_of "$S1" .owner) $(status_of "$S2" .owner)"
}

is_ready ()
{
  has_event phase &&
    [ "$(event 'map(select(.event == "phase")) | last.phase')" = ready ]
}

# start_until_ready MODE [OPTION...]: all is copied, and it waits for "finish".
start_until_ready ()
{
  rm -f "$tmp/hurry"
  hurried 5 start_migrate "--finish=$1" --wait --max-pause=4s "${@:2}" "$S1" "$D1" \
    "$S2" "$D2"
  wait_for is_ready
  touch "$tmp/armed"
}

finish ()
{
  "$nbdmigrate" finish --no-wait "$S1"
}

# says_of SOURCE TEXT: in one of the last lines, which are about one disk each.
says_of ()
{
  tail -n 2 "$tmp/migrator.log" | grep -F "$1" | grep -qF "$2" ||
    fail "the last lines do not say of $1: $2"
}

# nothing_cut_over: every guest is on its source, and goes on.
nothing_cut_over ()
{
  local u

  [ "$(owners)" = "source source" ] || fail "the owners are: $(owners)"
  for u in "$S1" "$S2"; do
    must_have_status "$u" '.gate == "open" and .last_end == "interrupted"'
  done
  guest_goes_on guest
  [ "$(event 'map(select(.event == "pause" and .result == "committed")) |
              length')" -eq 0 ]
  [ "$(event 'map(select(.event == "failed")) | last.status')" -eq 1 ]
  [ "$(tail -n 2 "$tmp/migrator.log" | grep -c 'source .* authoritative')" \
    -eq 2 ] || fail "it does not say who is authoritative"
}

# ---- before the records ----------------------------------------------------

both_under_way ()
{
  has_status "$S1" '.unflushed_bytes > 0' &&
    has_status "$S2" '.unflushed_bytes > 0'
}

echo "-- a destination dies in the bulk pass"
start_disks
start_guest_on guest "$S1" "$S2" -- --initial "$pattern" --rate 4M
start_migrate --finish=pivot --rate=1M --reconnect=0 "$S1" "$D1" "$S2" "$D2"
wait_for has_event started
wait_for both_under_way
crash_bg destination2
WAIT_SECONDS=100 expect_status 1 wait_bg migrator
grep -qF "$D2" "$tmp/migrator.log" || fail "it does not name the destination"
nothing_cut_over

echo "-- and the next run goes on"
start_nbdkit destination2 file "$tmp/destination2"
must_migrate --finish=pivot "$S1" "$D1" "$S2" "$D2"
[ "$(completed resumed)" = true ]
[ "$(owners)" = "destination destination" ]
guest_goes_on guest
stop_guest guest
verify_all_final guest "$D1" "$D2"
stop_disks

# ---- a record that cannot be written ---------------------------------------

first_is ()
{
  has_status "$S1" ".owner == \"$1\""
}

connections_of ()
{
  find "/proc/${pids[$1]}/fd" -lname 'socket:*' | wc -l
}

is_connected ()
{
  has_ended "${pids[reader]}" ||
    (($(connections_of proxy1) > connections))
}

# Reads do not wait at the gate; one that finds the first disk handed over must
# wait for what becomes of that.  The first disk can be taken back as long as
# its gate is shut: also when the deadline of the pause has passed meanwhile.
for case in pivot handover "pivot late" "handover late"; do
  mode=${case% late}
  [ "$mode" = pivot ] && owner=destination || owner=fenced
  echo "-- $case: the second disk's record cannot be written"
  start_disks CRASH_HOW=fail CRASH_GO="$tmp/go" CRASH_AT=1
  start_guest_on guest "$S1" "$S2" -- --initial "$pattern" --rate 4M
  if [ "$case" = "$mode" ]; then
    start_until_ready "$mode"
  else
    start_until_ready "$mode" --max-pause=1s
  fi
  connections=$(connections_of proxy1)
  finish
  wait_for first_is "$owner"
  start_bg reader qemu-io -f raw -r -c "read 0 4K" "$S1"
  wait_for is_connected
  [ "$case" = "$mode" ] || sleep 1.2 # the deadline passes: that is the event
  touch "$tmp/go"
  wait_bg reader || fail "a read has failed"
  expect_status 1 wait_bg migrator
  nothing_cut_over
  grep -qF "cutting over $S2" "$tmp/migrator.log"
  must_migrate --finish=detach "$S1" "$D1" "$S2" "$D2"
  guest_goes_on guest
  verify_one_instant guest "$D1" "$D2" || fail "the copies are wrong"
  stop_guest guest
  verify_all_final guest "$S1" "$S2"
  stop_disks
done

echo "-- the second disk's record is written only after the deadline"
start_disks CRASH_HOW=hang CRASH_GO="$tmp/go" CRASH_AT=1
start_guest_on guest "$S1" "$S2" -- --initial "$pattern" --rate 4M
start_until_ready pivot --max-pause=1s
finish
wait_for first_is destination
sleep 1.2 # the deadline passes: that is the event
has_status "$S1" '.gate == "committed"' || fail "the first gate is open"
touch "$tmp/go"
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(owners)" = "destination destination" ] || fail "the owners are: $(owners)"
guest_goes_on guest
stop_guest guest
verify_all_final guest "$D1" "$D2"
stop_disks

echo "-- nor can the old record be restored: nobody is served until reopen"
start_disks CRASH_HOW=fail CRASH_AT=1 CRASH_TO=1000
start_until_ready pivot
finish
expect_status 5 wait_bg migrator
[ "$(owners)" = "source unknown" ] || fail "the owners are: $(owners)"
says_of "$S1" "the source $S1 is intact and authoritative"
says_of "$S2" "nbdmigrate reopen $S2"
expect_status 1 nbdcopy "$S2" null: 2> "$tmp/refused.log"
end_bg proxy2
start_second
[ "$(owners)" = "source source" ] ||
  "$nbdmigrate" reopen "$S2" owner=source
[ "$(owners)" = "source source" ]
must_migrate --finish=pivot "$S1" "$D1" "$S2" "$D2"
same_content "$S1" "$D1"
same_content "$S2" "$D2"
stop_disks

# ---- a crash in the middle of the records ----------------------------------

# A guest on each disk, since one of them will lose its connection.
start_guests ()
{
  start_guest guest1 "$S1" --initial "$pattern" --rate 4M "$@"
  start_guest guest2 "$S2" --initial "$pattern" --rate 4M \
    --expect-disconnect --expect-shutdown
}

echo "-- the second proxy dies between the records of a pivot"
start_disks CRASH_HOW=hang CRASH_GO="$tmp/go" CRASH_AT=1
start_guests
start_until_ready pivot
finish
wait_for first_is destination
crash_bg proxy2
wait_bg guest2 || fail "the guest ended with exit status $?"
touch "$tmp/hurry"
expect_status 5 wait_bg migrator
says_of "$S1" "the destination $D1 is authoritative; $S1 relays to it"
says_of "$S2" "nbdmigrate status $S2"
guest_goes_on guest1

echo "   what is left: each disk has one owner"
"$nbdmigrate" status "$S1"
"$nbdmigrate" status "$tmp/proxy2.dir"
"$nbdmigrate" status --json "$tmp/proxy2.dir" > "$tmp/offline"
grep -q '"owner": "source"' "$tmp/offline"
start_second
[ "$(owners)" = "destination source" ] || fail "the owners are: $(owners)"
verify_final guest2 "$S2"

echo "   mended by moving the rest"
start_guest guest2 "$S2" --resume --rate 4M
expect_status 1 migrate --finish=pivot "$S1" "$D1" "$S2" "$D2"
must_migrate --finish=pivot "$S2" "$D2"
[ "$(owners)" = "destination destination" ]
for i in 1 2; do
  guest_goes_on guest$i
  stop_guest guest$i
done
verify_final guest1 "$D1"
verify_final guest2 "$D2"
stop_disks

# The first disk is taken back as long as its gate is shut: a proxy that is
# started again in time can be asked.
echo "-- the second proxy dies before its record of a pivot, and is back soon"
start_disks CRASH_HOW=before CRASH_GO="$tmp/go" CRASH_AT=1
start_guests
start_until_ready pivot --max-pause=1s
finish
wait_for first_is destination
touch "$tmp/go"
wait_bg guest2 || fail "the guest ended with exit status $?"
expect_status 137 wait_bg proxy2
sleep 1 # the deadline passes: that is the event
start_second
expect_status 1 wait_bg migrator
[ "$(owners)" = "source source" ] || fail "the owners are: $(owners)"
guest_goes_on guest1
stop_guest guest1
verify_final guest1 "$S1"
verify_final guest2 "$S2"
stop_disks

# What cannot be taken back is asked after until there is an answer.
echo "-- the first proxy dies, the second disk's record fails, the first is back soon"
start_disks CRASH_HOW=fail CRASH_GO="$tmp/go" CRASH_AT=1
start_until_ready pivot
finish
wait_for first_is destination
crash_bg proxy1
touch "$tmp/go"
wait_for has_status "$S2" '.gate == "open"'
start_proxy proxy1 file "$tmp/source1"
expect_status 5 wait_bg migrator
says_of "$S1" "the destination $D1 is authoritative; $S1 relays to it"
says_of "$S2" "the source $S2 is intact and authoritative"
stop_disks

echo "-- a record fails after migrate-max-gate, too: some disks are cut over"
proxy_options=(migrate-max-gate=1s)
start_disks CRASH_HOW=fail CRASH_GO="$tmp/go" CRASH_AT=1
start_guest_on guest "$S1" "$S2" -- --initial "$pattern" --rate 4M
start_until_ready pivot --max-pause=1s
finish
wait_for first_is destination
wait_for has_status "$S1" '.gate == "open"'
touch "$tmp/go"
expect_status 5 wait_bg migrator
[ "$(owners)" = "destination source" ] || fail "the owners are: $(owners)"
says_of "$S1" "the destination $D1 is authoritative; $S1 relays to it"
says_of "$S2" "the source $S2 is intact and authoritative"
[ "$(event 'map(select(.event == "failed")) | last.disks |
            map(.owner) | join(" ")')" = "destination source" ]
guest_goes_on guest
must_migrate --finish=pivot --max-pause=1s "$S2" "$D2"
guest_goes_on guest
stop_guest guest
verify_all_final guest "$D1" "$D2"
stop_disks
proxy_options=()

# Leaves the first disk fenced and the second at its source, its proxy started
# again.
break_handover ()
{
  start_disks CRASH_HOW=before CRASH_AT=1
  start_guests --expect-shutdown
  # The guest's end is that of the first disk's pause.
  start_until_ready handover --max-pause=1s
  finish
  wait_bg guest1 || fail "the guest ended with exit status $?"
  wait_bg guest2 || fail "the guest ended with exit status $?"
  touch "$tmp/hurry"
  expect_status 5 wait_bg migrator
  says_of "$S1" "nbdmigrate reopen $S1"
  expect_status 137 wait_bg proxy2
  start_second
  [ "$(owners)" = "fenced source" ] || fail "the owners are: $(owners)"
}

echo "-- the second proxy dies before its record of a handover"
break_handover

echo "   mended by taking the rest back"
"$nbdmigrate" reopen "$S1"
[ "$(owners)" = "source source" ]
for i in 1 2; do
  uri=$(uri proxy$i)
  verify_final guest$i "$uri"
  start_guest guest$i "$uri" --resume --rate 4M
done
must_migrate --finish=pivot "$S1" "$D1" "$S2" "$D2"
for i in 1 2; do
  guest_goes_on guest$i
  stop_guest guest$i
  verify_final guest$i "$(uri destination$i)"
done
stop_disks

echo "-- the same, mended by handing over the rest"
break_handover
must_migrate --finish=handover "$S2" "$D2"
[ "$(owners)" = "fenced fenced" ] || fail "the owners are: $(owners)"
for i in 1 2; do
  verify_final guest$i "$(uri destination$i)"
done
stop_disks

echo "-- the migrator dies between the records"
start_disks CRASH_HOW=hang CRASH_GO="$tmp/go" CRASH_AT=1
start_guest_on guest "$S1" "$S2" -- --initial "$pattern" --rate 4M
start_until_ready pivot
finish
wait_for first_is destination
crash_bg migrator
touch "$tmp/go"
wait_for has_status "$S2" '.owner == "destination"'
[ "$(owners)" = "destination destination" ]
guest_goes_on guest
stop_guest guest
verify_all_final guest "$D1" "$D2"
stop_disks
