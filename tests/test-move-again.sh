#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination that stands behind a filter of its own can move the disk on
# itself (test-move-on: the first proxy does).  One guest session goes on through three moves, the last of
# them between two servers that it never connected to, and all that was
# acknowledged is on the last one.  A proxy in the middle is started anew.
#
# timeout: 60

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((16 * 1024 * 1024))

for i in 1 2 3; do
  truncate -s $size "$tmp/disk$i"
  start_proxy proxy$i file "$tmp/disk$i"
done
truncate -s $size "$tmp/disk4"
start_nbdkit destination file "$tmp/disk4"

fill "$(uri proxy1)" 50
start_guest guest "$(uri proxy1)" --initial "$pattern" --rate 4M

echo "-- twice"
must_migrate "$(uri proxy1)" "$(uri proxy2)"
guest_goes_on guest
ln -s proxy2.sock "$tmp/alias.sock"
expect_status 1 migrate "$(uri proxy1)" "$(uri alias)"
grep -qF "is at $(uri proxy2) already" "$tmp/migrate.log"
tail -n 1 "$tmp/migrate.log" | grep -qF "stays at $(uri proxy2), which is auth"
must_migrate "$(uri proxy2)" "$(uri proxy3)"
guest_goes_on guest

echo "-- who has moved says where the disk is, and does not move it there again"
expect_status 1 migrate "$(uri proxy1)" "$(uri proxy2)"
grep -qF "is at $(uri proxy2) already" "$tmp/migrate.log"
"$nbdmigrate" status "$(uri proxy1)" | grep -qF "$(uri proxy2)"

echo "-- nor can it be a destination, which might lead in a circle"
expect_status 1 migrate "$(uri proxy3)" "$(uri proxy1)"
grep -q 'relays to another server' "$tmp/migrate.log"
guest_goes_on guest

echo "-- a third time, after the proxy in the middle was started anew"
end_bg proxy2
start_proxy proxy2 file "$tmp/disk2"
guest_goes_on guest
must_migrate "$(uri proxy3)" "$(uri destination)"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri destination)"
must_have_status "$(uri proxy1)" '.relay.losses >= 1'
for i in 1 2 3; do
  end_bg proxy$i
done

# By then the plugin's own description announces the other proxy.
echo "-- a proxy before a proxy is moved by itself"
truncate -s $size "$tmp/disk5"
start_proxy inner file "$tmp/disk5"
start_proxy outer nbd socket="$tmp/inner.sock" shared=true
start_nbdkit last memory $size
fill "$(uri outer)" 50
start_guest other "$(uri outer)" --initial "$pattern" --rate 4M
must_migrate "$(uri outer)" "$(uri last)"
guest_goes_on other
stop_guest other
verify_final other "$(uri last)"
for name in outer inner; do
  status_of "$(uri $name)" .owner
done > "$tmp/owners"
[ "$(cat "$tmp/owners")" = $'destination\nsource' ]
end_bg outer
end_bg inner
