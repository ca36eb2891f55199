#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 150
#
# A Linux guest moves from one QEMU to another on another host, RAM and disk,
# with examples/qemu-live-migration, while it writes files and syncs them.
# The hosts are two network namespaces.  Before that, attempts fail: one
# because the disk is not handed over; when it has been, one because the
# destination QEMU cannot start and one because it dies, whereupon the source
# QEMU resumes on a disk that is fenced.  After each the guest goes on at the
# source, and in the end every file that was synced is at the destination.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/guest/guest.sh
source "$SRCDIR/tests/guest/guest.sh"
requires nbdkit ip python3
requires_root
guest_prepare

# ---- two hosts -------------------------------------------------------------

here=nbdmigrate-$$-1 there=nbdmigrate-$$-2
there_ip=192.0.2.2

add_hosts ()
{
  ip netns add "$here" 2> "$tmp/netns.log" || skip "no network namespaces"
  at_end "ip netns del $here"
  ip netns add "$there"
  at_end "ip netns del $there"
  ip -n "$here" link add eth0 type veth peer name eth0 netns "$there"
  ip -n "$here" address add 192.0.2.1/24 dev eth0
  ip -n "$there" address add $there_ip/24 dev eth0
  ip -n "$here" link set eth0 up
  ip -n "$there" link set eth0 up
  ip -n "$there" link set lo up
}

# on HOST COMMAND...
on ()
{
  ip netns exec "$@"
}

start_servers ()
{
  start_bg proxy ip netns exec "$here" nbdkit -f \
    -U "$tmp/proxy.sock" -P "$tmp/proxy.pid" \
    --filter="$filter" file "$tmp/source" migrate-dir="$tmp/proxy.dir"
  start_bg destination ip netns exec "$there" nbdkit -f \
    -i $there_ip -p 10809 -P "$tmp/destination.pid" file "$tmp/destination"
  wait_for server_is_up proxy
  wait_for server_is_up destination
}

# ---- moving ----------------------------------------------------------------

# start_destination_guest NAME: a QEMU that waits for the guest.
start_destination_guest ()
{
  guest_prefix=(ip netns exec "$there")
  guest_start "$1" "server.type=inet,server.host=$there_ip,server.port=10809" \
    -S -incoming defer
  wait_for test -S "$tmp/$1.qmp"
}

# orchestrate NAME NBDMIGRATE: move the guest to the QEMU NAME.
orchestrate ()
{
  on "$here" python3 "$SRCDIR/examples/qemu-live-migration/orchestrate.py" \
    --source-qmp "$tmp/guest.qmp" --destination-qmp "$tmp/$1.qmp" \
    --ram tcp:$there_ip:4444 --nbdmigrate "$2" \
    "$(uri proxy)" "nbd://$there_ip:10809" "${slow[@]}"
}

# on_finish NAME COMMAND: $tmp/NAME is an nbdmigrate whose `finish` is that.
on_finish ()
{
  cat > "$tmp/$1" <<END
#!/bin/sh
if [ "\$1" = finish ]; then
  $2
  exit
fi
exec "$nbdmigrate" "\$@"
END
  chmod +x "$tmp/$1"
}

guest_is_back ()
{
  [ "$(status .owner)" = source ] || fail "the disk's owner is $(status .owner)"
  guest_works guest
  guest_verify guest
}

add_hosts
guest_make_disk "$tmp/source"
truncate -s "${guest_disk_mib}M" "$tmp/destination"
start_servers
guest_prefix=(ip netns exec "$here")
guest_start guest "server.type=unix,server.path=$tmp/proxy.sock,reconnect-delay=60"
guest_works guest

echo "-- a monitor that is not there yet, at the end of a tunnel"
start_bg tunnel python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
s.accept()[0].close()' "$tmp/tunnel.qmp"
wait_for test -S "$tmp/tunnel.qmp"
expect_status 1 orchestrate tunnel "$nbdmigrate" 2> "$tmp/said"
grep -q "destination QEMU: nothing greets at $tmp/tunnel.qmp" "$tmp/said" ||
  fail "$(cat "$tmp/said")"
wait_bg tunnel
guest_is_back

echo "-- cancelled when the guest is paused: it goes on at the source"
on_finish cancels "\"$nbdmigrate\" cancel \"\$2\""
start_destination_guest there-1
expect_status 1 orchestrate there-1 "$tmp/cancels"
guest_is_back
wait_bg there-1 && fail "the destination QEMU of the first attempt ran"

# Without discard the device has not the features that the guest uses: QEMU
# finds that out when it loads the device, after the disk was handed over.
echo "-- the destination fails to start: back to the source"
guest_device=,discard=off
start_destination_guest there-2
guest_device=
expect_status 1 orchestrate there-2 "$nbdmigrate"
wait_bg there-2 && fail "the destination QEMU of the second attempt ran"
guest_is_back

echo "-- the destination dies: back to the source"
start_destination_guest there-3
on_finish kills "\"$nbdmigrate\" \"\$@\" && kill -KILL ${pids[there-3]}"
expect_status 1 orchestrate there-3 "$tmp/kills"
wait_bg there-3 && fail "the destination QEMU of the third attempt ran"
guest_is_back

echo "-- the guest moves"
start_destination_guest there-4
orchestrate there-4 "$nbdmigrate"
wait_bg guest
[ "$(status .owner)" = fenced ]
guest_works there-4
guest_verify there-4
guest_works there-4
guest_stop there-4
end_bg proxy
end_bg destination
guest_check_disk "$tmp/destination" guest there-4
