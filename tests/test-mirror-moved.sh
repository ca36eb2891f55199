#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Guests' writes go where the migrator's connections lead to, also when those are
# others than they were: what is written elsewhere would count as copied.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq qemu-io ss
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/mirror.sh
source "$SRCDIR/tests/mirror.sh"

size=$((8 * chunk))
export CONTROL_TO=$tmp/leads-to

# lead_to NAME: the migrator has lost its connections, and has new ones.
lead_to ()
{
  ln -sfn "$tmp/$1.sock" "$CONTROL_TO"
  talk lost
  epoch=$(answered .return.epoch)
}

is_refused ()
{
  is_tracked '.mirror.state == "off" and
    (.mirror.why // "" | test("another address"))'
}

# The proxy has connected, and the server has not taken the connection yet.
is_dialled ()
{
  ss -Hxl src "$tmp/destination.sock" | grep -qE '^u_str +LISTEN +[1-9]'
}

# Another server is at the same address; the old one goes on.
replace_destination ()
{
  pids[old]=${pids[destination]}
  names+=(old)
  unset "pids[destination]"
  mv "$tmp/destination.img" "$tmp/old.img"
  truncate -s $size "$tmp/destination.img"
  start_late destination
}

ln -s "$tmp/destination.sock" "$CONTROL_TO"
start_nbdkit other memory $size
start_mirror $size
mirror_on
write_to 0 1 $chunk
must_be_tracked '.mirror.writes == 1'

echo "-- they lead to another server than the URI"
lead_to other
talk mirror '{"enabled": true, "max_ms": 60000}'
wait_for is_refused
write_to 0 2 $chunk
must_be_tracked '.mirror.writes == 1 and .unflushed_bytes == 0'

echo "-- and to the same again"
lead_to destination
copy_all
mirror_on
write_to 0 3 $chunk
must_be_tracked '.mirror.writes == 2 and .dirty_bytes == 0'
cmp <(head -c $chunk "$tmp/destination.img") \
  <(head -c $chunk /dev/zero | tr '\0' '\3')

echo "-- a connection that was begun before they were lost leads to the old server"
lead_to destination
wait_for mirror_is off
kill_bg destination STOP
talk mirror '{"enabled": true, "max_ms": 60000}'
wait_for is_dialled
replace_destination
lead_to destination
talk mirror '{"enabled": true, "max_ms": 60000}'
kill_bg old CONT
wait_for mirror_is on
write_to $chunk 5 $chunk
cmp <(tail -c +$((chunk + 1)) "$tmp/destination.img" | head -c $chunk) \
  <(head -c $chunk /dev/zero | tr '\0' '\5')
end_bg old
stop_mirror
