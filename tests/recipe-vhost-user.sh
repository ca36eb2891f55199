#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# docs/recipes.md, "A VMM that has no NBD client": a Linux guest whose disk comes by
# vhost-user-blk from qemu-storage-daemon, which is the client of the proxy.  The disk is
# pivoted under it while it writes files and syncs them, and the proxy is killed and
# started again: the guest waits, and has no complaint.
#
# make check-recipes runs it; a guest that boots is too much for make check.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/guest/guest.sh
source "$SRCDIR/tests/guest/guest.sh"
requires nbdkit qemu-storage-daemon
guest_prepare

is_socket ()
{
  [ -S "$1" ]
}

guest_make_disk "$tmp/source"
truncate -s "${guest_disk_mib}M" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
start_bg daemon qemu-storage-daemon \
  --blockdev "driver=nbd,node-name=disk,server.type=unix,server.path=$tmp/proxy.sock,discard=unmap,reconnect-delay=60" \
  --export "type=vhost-user-blk,id=disk,node-name=disk,addr.type=unix,addr.path=$tmp/vhost.sock,writable=on"
wait_for is_socket "$tmp/vhost.sock"
# shellcheck disable=SC2034 # used by guest_start
guest_vhost_user=$tmp/vhost.sock
guest_start guest ""
guest_works guest

echo "-- a pivot under it"
must_migrate --finish=pivot "$(uri proxy)" "$(uri destination)"
guest_works guest

echo "-- the proxy is killed, and started again"
crash_bg proxy
start_proxy proxy file "$tmp/source"
guest_works guest
guest_verify guest
guest_stop guest
end_bg daemon
end_bg proxy
end_bg destination
guest_check_disk "$tmp/destination" guest
