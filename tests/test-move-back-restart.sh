#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The server behind the plugin is started anew while the disk is elsewhere: when
# it comes back (local:) it is served over what was looked at then, also to a
# guest whose own way to the plugin ended meanwhile.  And while the disk is coming
# back: what that server had not flushed is not taken for copied (R6a), and no
# guest is told of a loss, since its data are elsewhere.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit nbdcopy nbdinfo jq qemu-io

P=$(uri proxy)
view="nbd+unix:///nbdmigrate-local?socket=$tmp/proxy.sock"
at_end 'go away now'

# start_disks MULTI-CONN: of the plugin, that all connections share without it.
start_disks ()
{
  truncate -s 8M "$tmp/home.img" "$tmp/away.img"
  start_late away
  start_home "$1"
  start_proxy proxy nbd socket="$tmp/home.sock"
}

start_home ()
{
  late_forget home
  start_late home volatile=1 multi-conn="$1"
}

stop_disks ()
{
  end_bg proxy
  end_bg home
  end_bg away
  rm -rf "$tmp"/*.img "$tmp"/*.record "$tmp"/*.cue "$tmp/proxy.dir"
}

for multi_conn in 1 0; do
  echo "-- while the disk is elsewhere, multi-conn=$multi_conn"
  start_disks $multi_conn
  start_guest guest "$P" --rate 4M
  must_migrate "$P" "$(uri away)"
  crash_bg home
  start_home $multi_conn
  must_migrate "$P" local:
  guest_goes_on guest
  stop_guest guest
  verify_final guest "$P"
  must_have_status "$tmp/proxy.dir" '.destination == "local:"'
  stop_disks
done

has_copied ()
{
  [ "$(status .unflushed_bytes)" -gt 0 ]
}

for multi_conn in 1 0; do
  echo "-- while it comes back, multi-conn=$multi_conn"
  start_disks $multi_conn
  qemu-io -f raw -c 'write -P 0x53 0 64k' "$P" > "$tmp/qemu-io.out"
  must_migrate "$P" "$(uri away)"
  qemu-io -f raw -c 'write -P 0x53 0 4M' "$P" > "$tmp/qemu-io.out"
  # Not one of the samples, which are shorter: they are read before.
  cue away 'read hold until=now at=4128768 least=8192'
  start_migrate "$P" local:
  wait_for late_has away 'read .* came$'
  wait_for has_copied
  crash_bg home
  start_home $multi_conn
  # One that fails at least.
  nbdcopy "$view" null: 2> "$tmp/nbdcopy.log" || :
  nbdinfo --size "$view" > "$tmp/size"
  nbdinfo --size "$P" > "$tmp/size"
  cue away
  go away now
  expect_status 1 wait_bg migrator
  # Under load it may not have written all that it could by then.
  grep -qE '(writing to|flushing) .*(Input/output error|Invalid argument)' \
    "$tmp/migrator.log" ||
    fail "it says: $(cat "$tmp/migrator.log")"
  qemu-io -f raw -c 'read -P 0x53 0 4M' -c flush "$P" > "$tmp/qemu-io.out" ||
    fail "a guest is told: $(cat "$tmp/qemu-io.out")"
  must_migrate "$P" local:
  qemu-io -f raw -c 'read -P 0x53 0 4M' "$P" > "$tmp/qemu-io.out"
  ! grep 'verification failed' "$tmp/qemu-io.out" || fail "it is not the disk"
  stop_disks
done

for multi_conn in 1 0; do
  echo "-- before anything is written it may change, multi-conn=$multi_conn"
  start_disks $multi_conn
  qemu-io -f raw -c 'write -P 0x53 0 64k' "$P" > "$tmp/qemu-io.out"
  must_migrate "$P" "$(uri away)"
  cue home 'read fail at=0 count=3'
  must_migrate "$P" local:
  must_have_status "$tmp/proxy.dir" '.destination == "local:"'
  stop_disks
done
