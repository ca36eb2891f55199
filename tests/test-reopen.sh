#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# `nbdmigrate reopen` and the first client after a restart connect to a
# destination that takes its time, serves one client only, or is no destination
# at all; and what nobody has copied to is not believed to be zero (R18).  (What
# is recorded, and when: test-pivot-restart, test-pivot-moved-destination.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd nbdinfo nbdcopy

size=$((4 * 1024 * 1024))
dir=$tmp/proxy.dir

# refused TEXT ARGUMENT...: reopen fails and says TEXT.
refused ()
{
  local text=$1

  shift
  expect_status 1 "$nbdmigrate" reopen "$dir" "$@" > "$tmp/said" 2>&1
  grep -qF -- "$text" "$tmp/said" ||
    fail "this is not said: $text in $(cat "$tmp/said")"
}

# begin: the guest's disk is in the file "disk", served by "one".
begin ()
{
  rm -rf "$dir" "$tmp/source" "$tmp/disk" "$tmp/guest.record"
  truncate -s $size "$tmp/source" "$tmp/disk"
  start_nbdkit one file "$tmp/disk"
  start_proxy proxy file "$tmp/source" migrate-reconnect=60s
  start_guest guest "$(uri proxy)" --rate 4M
  must_migrate "$(uri proxy)" "$(uri one)"
  guest_goes_on guest
}

restart_proxy ()
{
  end_bg proxy
  start_proxy proxy -v null size=$size
}

# It serves one client and ends then.
start_one_client ()
{
  rm -f "$tmp/$1.pid"
  start_bg "$1" qemu-nbd -k "$tmp/$1.sock" --pid-file="$tmp/$1.pid" -f raw \
    --discard=unmap "$tmp/disk"
  wait_for server_is_up "$1"
}

# log_has N TEXT
log_has ()
{
  [ "$(grep -c -- "$2" "$tmp/proxy.log")" -ge "$1" ]
}

attempts ()
{
  grep -c ': connecting to' "$tmp/proxy.log" || :
}

begin
echo "-- a server that serves one client, with the guest connected"
crash_bg one
start_one_client single
"$nbdmigrate" reopen "$dir" owner=destination destination="$(uri single)"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri proxy)"
restart_proxy
wait_bg single || :

echo "-- and with nobody connected"
start_one_client single
"$nbdmigrate" reopen "$dir" owner=destination destination="$(uri single)"
verify_final guest "$(uri proxy)"
restart_proxy
wait_bg single || :

echo "-- the proxy itself"
refused 'nothing was changed' owner=destination destination="$(uri proxy)"

echo "-- many clients, and a server that does not answer"
start_nbdkit silent file "$tmp/disk"
"$nbdmigrate" reopen "$dir" owner=destination destination="$(uri silent)"
restart_proxy
kill_bg silent STOP
for i in 1 2 3 4 5 6 7 8; do
  start_bg "client$i" nbdinfo --size "$(uri proxy)"
done
wait_for log_has 8 'migrate: open readonly'
for i in 1 2 3 4 5 6 7 8; do
  ! wait_bg "client$i" || fail "client $i was served"
done
[ "$(attempts)" -lt 8 ] || fail "each client made its own attempt"

echo "-- one of them gives up, and another one is served"
before=$(attempts)
start_bg hasty nbdinfo --size "$(uri proxy)"
wait_for log_has $((before + 1)) ': connecting to'
start_bg patient nbdinfo --size "$(uri proxy)"
wait_for log_has 10 'migrate: open readonly'
crash_bg hasty
wait_for log_has $((before + 2)) ': connecting to'
kill_bg silent CONT
wait_bg patient || fail "it was refused because of the other"
restart_proxy
kill_bg silent STOP

echo "-- others need not wait for a reopen"
start_bg reopen "$nbdmigrate" reopen "$dir" owner=destination
wait_for log_has $(($(attempts) + 1)) ': connecting to'
"$nbdmigrate" status "$dir" > "$tmp/status.out"
refused 'another reopen' owner=destination destination="$(uri single)"
is_running "${pids[reopen]}" || fail "status had to wait"

echo "-- nor the end of the proxy"
end_bg proxy
! wait_bg reopen || fail "it was reopened"
kill_bg silent CONT
end_bg silent

echo "-- the owner is not known, and the proxy itself is named"
: > "$dir/state"
start_proxy proxy null size=$size
expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" owner=destination \
  destination="$(uri proxy)" > "$tmp/said" 2>&1
grep -qF 'is this proxy itself' "$tmp/said"
end_bg proxy

echo "-- the destination is a proxy that was pivoted since"
rm -rf "$dir"
start_nbdkit last memory $size
start_proxy next memory $size
start_proxy proxy memory $size
must_migrate "$(uri proxy)" "$(uri next)"
must_migrate "$(uri next)" "$(uri last)"
restart_proxy
"$nbdmigrate" reopen "$dir"
same_content "$(uri proxy)" "$(uri last)"

echo "-- where there is no record, it might lead back here"
end_bg proxy
: > "$dir/state"
start_proxy proxy null size=$size
expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" owner=destination \
  destination="$(uri next)" > "$tmp/said" 2>&1
grep -qF 'is a proxy that relays' "$tmp/said"
end_bg proxy
end_bg next
end_bg last

echo "-- a destination that no migration has named is not known to be zero"
begin
crash_bg one
start_nbdkit two file "$tmp/disk"
"$nbdmigrate" reopen "$dir" owner=destination destination="$(uri two)"
guest_goes_on guest
stop_guest guest
end_bg proxy
end_bg two
# It moves once more, and neither place is sure to be recorded then.
start_nbdkit three file "$tmp/disk"
LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$dir CRASH_HOW=fail \
  CRASH_AT=2 CRASH_TO=1000 CRASH_ARM=$tmp/arm \
  start_proxy proxy file "$tmp/source"
touch "$tmp/arm"
refused 'could not be recorded' owner=destination destination="$(uri three)"
rm "$tmp/arm"
end_bg three
"$nbdmigrate" reopen "$(uri proxy)" owner=source
start_nbdkit two file "$tmp/disk"
# The source never got what the guest wrote there.
must_migrate --finish=detach --destination-is-zero "$(uri proxy)" "$(uri two)"
same_content "$(uri proxy)" "$(uri two)"
