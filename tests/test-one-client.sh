#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination that admits one client only, as qemu-nbd does without -e: a
# pivot, for which the proxy needs a connection of its own, is refused before
# anything is written, and the message says what to change.  Detach and handover
# work over the one connection.  So with one that hangs up on the second client, as
# nbdkit's limit filter does, with multi-conn and without.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd

size=$((4 * 1024 * 1024 + 512))
truncate -s $size "$tmp/source" "$tmp/destination"
printf 'as before' | dd of="$tmp/destination" conv=notrunc status=none
untouched=$(sha256sum < "$tmp/destination")

has_been_refused ()
{
  grep -q "cannot finish .* by pivot: .*qemu-nbd -e" "$tmp/migrator.log"
}

start_proxy proxy file "$tmp/source"
start_qemu_nbd destination -f raw "$tmp/destination"
fill "$(uri proxy)" 50
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 2M \
  --expect-shutdown

echo "-- pivot"
expect_status 1 migrate "$(uri proxy)" "$(uri destination)"
grep -q 'qemu-nbd -e' "$tmp/migrate.log" || fail "the remedy is not named"
[ "$(grep -c 'qemu-nbd' "$tmp/migrate.log")" -eq 1 ] || fail "it is said twice"
# It is the only connection that can be taken away.
! grep -e '--connections' "$tmp/migrate.log" || fail "that cannot help"
tail -n 1 "$tmp/migrate.log" | grep -q 'source .* authoritative'
[ "$(sha256sum < "$tmp/destination")" = "$untouched" ] ||
  fail "something was written"
[ "$(status .owner)" = source ]
guest_goes_on guest

echo "-- detach"
must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
verify_cut guest "$(uri destination)"

echo "-- a pivot instead of the planned handover is refused, and no harm done"
start_migrate --wait --finish=handover "$(uri proxy)" "$(uri destination)"
wait_for is_ready
"$nbdmigrate" finish --no-wait "$(uri proxy)" pivot
wait_for has_been_refused
wait_for is_ready
guest_goes_on guest

echo "-- handover"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(completed finish)" = handover ]
wait_bg guest || fail "the guest ended with exit status $?"
verify_final guest "$(uri destination)"
end_bg proxy
end_bg destination

for mode in auto disable; do
  echo "-- a server that hangs up, with multi-conn-mode=$mode"
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy file "$tmp/source"
  start_nbdkit destination --filter=multi-conn --filter=limit file "$tmp/destination" \
    limit=1 multi-conn-mode=$mode
  expect_status 1 migrate "$(uri proxy)" "$(uri destination)"
  grep 'preparing the cut-over' "$tmp/migrate.log" | grep -q 'let it admit more' ||
    fail "the remedy is not named: $(cat "$tmp/migrate.log")"
  grep 'preparing the cut-over' "$tmp/migrate.log" | grep -v 'external event' |
    grep -q -e 'closed the connection' -e 'disconnected' ||
    fail "the reason is not told: $(cat "$tmp/migrate.log")"
  end_bg proxy
  end_bg destination
done
