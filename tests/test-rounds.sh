#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The copying does not stand still while a flush at the end of a round is under
# way: what the guest writes meanwhile is copied meanwhile.  And where a flush
# takes longer than the pause may, it is said why it never is ready.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy jq

size=$((8 * 1024 * 1024))
lossy=$BUILD/tests/nbdkit-lossy-plugin.so

start_proxy proxy memory $size
fill "$(uri proxy)" 100

echo "-- copied while a flush is under way"
truncate -s $size "$tmp/slow.disk"
start_nbdkit slow "$lossy" file="$tmp/slow.disk" hold-flush="$tmp/hold"
start_migrate --wait --finish=detach --connections=1 --rate=4M "$(uri proxy)" \
  "$(uri slow)"
wait_for has_event phase
touch "$tmp/hold"
"$nbdmigrate" set "$(uri proxy)" rate=0
wait_for test -e "$tmp/hold.begun"
for percent in 50 100; do
  fill "$(uri proxy)" $percent
  wait_for has_status "$(uri proxy)" '.remaining_bytes == 0 and
    .unflushed_bytes > 0 and .progress.phase != "ready"'
done
same_content "$(uri proxy)" "$(uri slow)"
rm "$tmp/hold"
wait_for is_ready
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
same_content "$(uri proxy)" "$(uri slow)"
end_bg slow

echo "-- a flush that takes longer than the pause may"
# While guests' writes are mirrored each connection that has written is flushed (R6),
# and this server takes so long for every one of them, one after the other.
start_nbdkit slow "$lossy" file="$tmp/slow.disk" flush-ms=100
start_guest guest "$(uri proxy)" --initial any --rate 4M
start_migrate --wait --finish=detach --restart --max-pause=80ms \
  "$(uri proxy)" "$(uri slow)"
is_told ()
{
  grep -q "not ready: .*flush.* takes .*--max-pause is 80 ms" \
    "$tmp/migrator.log"
}
wait_for is_told
"$nbdmigrate" set "$(uri proxy)" max-pause=2s
wait_for is_ready
[ "$(grep -c 'not ready:' "$tmp/migrator.log")" -eq 1 ]
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_cut guest "$(uri slow)"
