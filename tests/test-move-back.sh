#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The way back: after a pivot the disk is moved to the local image that it came
# from, under the name local:, while the guest keeps its connection.  So it is
# for a guest that has connected while the plugin was not needed, and for a
# proxy that was started then.  Nobody but the session's own process can write to
# the local image meanwhile.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io

size=$((16 * 1024 * 1024))
P=$(uri proxy)
view="nbd+unix:///nbdmigrate-local?socket=$tmp/proxy.sock"
truncate -s $size "$tmp/local" "$tmp/a" "$tmp/b"
start_nbdkit a file "$tmp/a"
start_nbdkit b file "$tmp/b"
start_proxy proxy file "$tmp/local"

# is_local OWNER: the disk is in the local image.
is_local ()
{
    must_have_status "$tmp/proxy.dir" \
    ".place == null and .owner == \"$1\" and .destination == \"local:\""
  "$nbdmigrate" status "$tmp/proxy.dir" > "$tmp/status"
  grep -qx "place        the proxy's local image" "$tmp/status"
  ! grep -q '^source\|^destination' "$tmp/status" ||
    fail "nothing is being moved: $(cat "$tmp/status")"
}

echo "-- the disk is there already"
expect_status 1 migrate "$P" local:
grep -q "is in the proxy's local image already" "$tmp/migrate.log"
tail -n 1 "$tmp/migrate.log" | grep -q 'nothing was done: .* authoritative'
expect_status 2 migrate "$P" local
grep -q "or 'local:' for" "$tmp/migrate.log"

fill "$P" 50
start_guest guest "$P" --initial "$pattern" --rate 4M
must_migrate "$P" "$(uri a)"
guest_goes_on guest

echo "-- nobody else writes to the local image"
if qemu-io -f raw -c 'write 0 4k' "$view" > "$tmp/qemu-io.out" 2>&1; then
  fail "a write to the local image was possible"
fi
grep -q 'not permitted' "$tmp/qemu-io.out"

echo "-- why it cannot come back is said"
# cannot_come_back TEXT ARGUMENT...: of nbdkit
cannot_come_back ()
{
  local text=$1

  shift
  end_bg proxy
  start_proxy proxy "$@"
  expect_status 1 migrate "$P" local:
  grep -q "cannot come back to the proxy's local image: .*$text" \
    "$tmp/migrate.log" || fail "not said: $text in $(cat "$tmp/migrate.log")"
}
stop_guest guest
cannot_come_back "it has 1048576 bytes and the disk $size" memory 1M
cannot_come_back 'it is read-only' -r file "$tmp/local"
end_bg proxy
start_proxy proxy file "$tmp/local"
start_guest guest "$P" --resume --rate 4M

echo "-- there and back, twice"
must_migrate "$P" local:
guest_goes_on guest
is_local destination
end_bg a
start_nbdkit a file "$tmp/a"
must_migrate "$P" "$(uri b)"
guest_goes_on guest
must_migrate "$P" local:
guest_goes_on guest
is_local destination
stop_guest guest
verify_final guest "$P"
end_bg proxy
start_nbdkit image file "$tmp/local"
verify_final guest "$(uri image)"
end_bg image

echo "-- a proxy that is started knows it"
start_proxy proxy file "$tmp/local"
is_local destination
start_nbdkit elsewhere memory $size
expect_status 1 "$nbdmigrate" reopen "$P" destination="$(uri elsewhere)" \
  2> "$tmp/reopen.log"
grep -q "the proxy's local image" "$tmp/reopen.log" || fail "$(cat "$tmp/reopen.log")"
end_bg elsewhere
is_local destination
start_guest second "$P" --initial any --rate 4M
must_migrate "$P" "$(uri a)"
guest_goes_on second
stop_guest second
end_bg proxy

echo "-- guests that have never opened the plugin"
start_proxy proxy file "$tmp/local"
must_have_status "$tmp/proxy.dir" '.owner == "destination"'
start_guest third "$P" --initial any --rate 4M
start_migrate --wait "$P" local:
wait_for is_ready
expect_status 1 "$nbdmigrate" finish --no-wait "$P" handover 2> "$tmp/finish.log"
grep -q 'local image, which has no other server' "$tmp/finish.log"
kill_bg migrator KILL
expect_status 137 wait_bg migrator
guest_goes_on third
must_have_status "$P" '.owner == "source"'
must_migrate "$P" local:
guest_goes_on third
is_local destination
stop_guest third
verify_final third "$P"
start_guest fourth "$P" --initial any --rate 4M
stop_guest fourth
verify_final fourth "$P"
truncate -s 0 "$tmp/b"
truncate -s $size "$tmp/b"
must_migrate --finish=detach "$P" "$(uri b)"
same_content "$P" "$(uri b)"
end_bg proxy
start_nbdkit image file "$tmp/local"
verify_final fourth "$(uri image)"
