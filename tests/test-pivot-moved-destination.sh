#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# After a pivot the destination goes away and comes back at another address.
# While it is connected, and where the new place will not do, `nbdmigrate
# reopen` refuses and changes nothing; otherwise the guest, still connected,
# goes on there, nothing of what it wrote is missing, and a proxy that is started
# again knows the new place.  If neither place is sure to be recorded the guest
# waits.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((4 * 1024 * 1024 + 512))
dir=$tmp/proxy.dir

# move_to NAME: what reopen says of it.
move_to ()
{
  "$nbdmigrate" reopen "$dir" destination="$(uri "$1")" \
    > "$tmp/said" 2>&1
}

refused ()
{
  expect_status 1 move_to "$2"
  grep -qF -- "$1" "$tmp/said" ||
    fail "this is not said: $1 in $(cat "$tmp/said")"
}

destination_is ()
{
  must_have_status "$dir" \
    '.owner == "destination" and .destination == "'"$(uri "$1")"'"'
}

is_lost ()
{
  has_status "$dir" '.relay.up == false'
}

is_up ()
{
  has_status "$dir" .relay.up
}

truncate -s $size "$tmp/source" "$tmp/disk"
start_nbdkit one file "$tmp/disk"
# The record fails while the file "arm" is there, but not the first step, which
# is to forget what was known of the destinations (R18).
LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$dir CRASH_HOW=fail \
  CRASH_ARM=$tmp/arm CRASH_AT=2 CRASH_TO=1000 CRASH_LOG=$tmp/steps \
  hurried 3 start_proxy proxy file "$tmp/source" migrate-reconnect=300s
start_guest guest "$(uri proxy)" --rate 4M --kinds rwWzZt
must_migrate "$(uri proxy)" "$(uri one)"
guest_goes_on guest

echo "-- it is connected"
start_nbdkit two file "$tmp/disk"
refused 'end the server at the old one first' two
destination_is one
guest_goes_on guest

echo "-- the new place will not do"
crash_bg one
wait_for is_lost
refused 'nothing was changed' nobody
! grep -q 'give it as destination=URI' "$tmp/said" || fail "that was just done"
start_nbdkit small memory 1M
refused 'nothing was changed' small
end_bg small
start_nbdkit coarse --filter=blocksize-policy memory $((8 * 1024 * 1024)) \
  blocksize-minimum=4096 blocksize-preferred=4096
refused 'minimum block' coarse
end_bg coarse
refused 'is this proxy itself' proxy
destination_is one

echo "-- the guest goes on at another one"
move_to two
grep -q 'the proxy is connecting again' "$tmp/said" || is_up ||
  fail "it is said that guests are served, and they wait"
destination_is two
wait_for is_up
guest_goes_on guest
grep -q "server $(uri two | sed 's/[?]/[?]/'): back after" "$tmp/proxy.log"
refused 'already' one

echo "-- two of them, one right after the other"
crash_bg two
wait_for is_lost
# Not at the address that was lost: the proxy would be back there by itself.
start_nbdkit other file "$tmp/disk"
start_nbdkit another file "$tmp/disk"
move_to other
# The proxy may or may not be there by now.
move_to another || {
  grep -qF already "$tmp/said" || fail "$(cat "$tmp/said")"
  crash_bg other
  wait_for is_lost
  move_to another
}
destination_is another
wait_for is_up
guest_goes_on guest

echo "-- back at the same address, while reopen looks elsewhere"
crash_bg another
wait_for is_lost
refused 'nothing was changed' nobody
start_nbdkit another file "$tmp/disk"
wait_for is_up
guest_goes_on guest
destination_is another

echo "-- the old server is there and does not answer"
kill_bg another STOP
touch "$tmp/hurry" # what was not answered is waited for twice as long
start_nbdkit three file "$tmp/disk"
# It is waited for; but it can be left.
is_silent ()
{
  has_status "$dir" '.relay.silent_ms >= 3000'
}
wait_for is_silent
is_lost && fail "a server that does not answer is no lost one"
move_to three
wait_for is_up
guest_goes_on guest
crash_bg another

echo "-- neither place is sure to be recorded"
crash_bg three
wait_for is_lost
start_nbdkit four file "$tmp/disk"
touch "$tmp/arm"
refused 'is not sure' four
# Both are there, and none is used.
start_nbdkit three file "$tmp/disk"
refused 'nothing was changed' nobody
refused 'own messages say why' four
is_lost || fail "it is used before it is recorded"
has_status "$dir" .relay.held || fail "nobody is told that it is held"
"$nbdmigrate" status "$dir" | grep -q "until 'reopen' is repeated"
rm "$tmp/arm"
move_to four
crash_bg three
wait_for is_up
guest_goes_on guest
destination_is four

echo "-- a proxy that is started again"
stop_guest guest
verify_final guest "$(uri four)"
end_bg proxy
start_proxy proxy null size=$size
destination_is four
verify_final guest "$(uri proxy)"
destination_is four
end_bg proxy
