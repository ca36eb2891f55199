#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two disks: a destination that is lost, of whichever of them, does not keep the
# other from being copied.  Of several connections one is cut, and all are given
# up; a TCP address that leads to another server by then; TLS; a balancer that
# closes what is idle.  The end is one pause for both.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
# shellcheck source=tests/between.sh
source "$SRCDIR/tests/between.sh"
requires nbdkit jq
nbdkit --dump-config | grep -q '^tls=yes' || skip "nbdkit without TLS"

echo "user:$(printf '%064x' 77)" > "$tmp/keys.psk"
chmod 600 "$tmp/keys.psk"
D1="nbds+unix://user@/?socket=$tmp/between.sock&tls-psk-file=$tmp/keys.psk"

start_first ()
{
  start_nbdkit first --tls=require --tls-psk="$tmp/keys.psk" file "$tmp/disk1"
}

start_second ()
{
  start_nbdkit second "$BUILD/tests/nbdkit-lossy-plugin.so" file="$tmp/disk2"
}

# remains N TEST: of the disk of this proxy.
remains ()
{
  has_status "$(uri "proxy$1")" ".remaining_bytes $2"
}

truncate -s 8M "$tmp/disk1" "$tmp/disk2"
for n in 1 2; do
  start_proxy proxy$n memory 8M
  fill "$(uri proxy$n)" 70
  start_guest guest$n "$(uri proxy$n)" --initial "$pattern" --rate 500K
done
start_first
start_second
start_between between "" "unix:$tmp/first.sock"

start_migrate --wait --finish=detach --rate=4M --max-pause=1s \
  "$(uri proxy1)" "$D1" "$(uri proxy2)" "$(uri second)"
must_live=(migrator)

echo "-- the second is lost in the bulk pass, the first is copied meanwhile"
wait_for has_status "$(uri proxy2)" '.progress.copied_bytes > 0'
lose second
"$nbdmigrate" set "$(uri proxy1)" rate=100M
wait_for remains 1 "< 1000000"
remains 2 "> 2000000" || fail "the second disk is copied to nobody"
start_second
wait_for has_events reconnected 1
wait_for has_status "$(uri proxy1)" '.progress.phase == "ready"'

echo "-- the connections of the first are cut"
between between cut
wait_for has_events reconnected 2

echo "-- both are lost at once"
wait_for has_status "$(uri proxy1)" '.progress.phase == "ready"'
between between refuse
between between cut
lose second
guest_goes_on guest1
start_second
between between pass
wait_for has_events reconnected 4

echo "-- the end"
"$nbdmigrate" finish --no-wait "$(uri proxy1)"
must_live=()
wait_bg migrator || fail "the migrator ended with exit status $?"
stop_guest guest1
stop_guest guest2
end_bg first
start_nbdkit plain file "$tmp/disk1"
verify_cut guest1 "$(uri plain)"
verify_cut guest2 "$(uri second)"
