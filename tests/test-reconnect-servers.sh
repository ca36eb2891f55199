#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Other servers than nbdkit are killed and come back while they are copied to:
# qemu-nbd, of a raw image and of qcow2, and nbd-server, whose children go on
# without it and are lost one by one.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq qemu-nbd qemu-img nbd-server

size=8M
start_proxy proxy memory $size
fill "$(uri proxy)" 70
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 500K

copies ()
{
  has_status "$(uri proxy)" '.unflushed_bytes > 0'
}

# moves DESTINATION: it is lost in the bulk pass and in sync, by the function
# "killed", and there again by "started".
moves ()
{
  losses=0
  started
  start_migrate --wait --finish=detach --restart --rate=4M "$(uri proxy)" "$1"
  must_live=(migrator)
  wait_for copies
  killed
  wait_for has_events lost 1
  started
  wait_for has_events reconnected 1
  "$nbdmigrate" set "$(uri proxy)" rate=200M
  wait_for is_ready
  killed
  wait_for has_events lost 2
  guest_goes_on guest 5
  started
  wait_for has_events reconnected 2
  wait_for is_ready
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  must_live=()
  wait_bg migrator || fail "the migrator ended with exit status $?"
  verify_cut guest "$1"
}

for format in raw qcow2; do
  echo "-- qemu-nbd, $format"
  qemu-img create -q -f $format "$tmp/disk.$format" $size
  started () { start_qemu_nbd destination -e 16 -f $format "$tmp/disk.$format"; }
  killed () { crash_bg destination; }
  moves "$(uri destination)"
  crash_bg destination
done

echo "-- nbd-server"
truncate -s $size "$tmp/disk"
started () { start_nbd_server "$tmp/disk"; }
killed ()
{
  local pid children

  pid=$(cat "$tmp/nbd-server.pid")
  read -ra children < "/proc/$pid/task/$pid/children" || :
  kill -KILL "$pid" "${children[@]}"
  wait_for has_ended "$pid"
}
moves "nbd+unix:///disk?socket=$tmp/nbd-server.sock"
stop_guest guest
