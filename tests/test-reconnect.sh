#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The destination is killed (-9) and started again while a disk is copied, in
# each pass: the migration waits for it and goes on, with all that was not
# flushed copied again (R6a), and the guest notices nothing.  The destination has
# lost what was not flushed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq

size=24M

start_lossy ()
{
  start_nbdkit destination "$BUILD/tests/nbdkit-lossy-plugin.so" \
    file="$tmp/lossy"
}

copies ()
{
  has_status "$(uri proxy)" ".unflushed_bytes > 0"
}

start_proxy proxy memory $size
fill "$(uri proxy)" 70
truncate -s $size "$tmp/lossy"
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 1M

echo "-- in the bulk pass"
start_lossy
start_migrate --wait --finish=detach --rate=8M "$(uri proxy)" \
  "$(uri destination)"
wait_for copies
lose destination
must_have_status "$(uri proxy)" '.unflushed_bytes == 0'
wait_for has_status "$(uri proxy)" '.progress.phase == "reconnect" and
  .progress.reconnecting.destinations == 1'
"$nbdmigrate" status "$(uri proxy)" > "$tmp/status"
grep -q "^ *for .* of 30.0 s at most; .* dirty again$" "$tmp/status"
grep -q "^ *[0-9]* attempts to reconnect: " "$tmp/status"
[ "$(event 'map(select(.event == "lost")) | .[0].dirty_again_bytes > 0')" = true ]
has_status "$(uri proxy)" '.progress.reconnecting.source != null and
  .progress.eta_ms == null'
grep -q 'progress  *reconnect .* destination lost for .*s, 30s at most$' "$tmp/status"
"$nbdmigrate" set "$(uri proxy)" background=0
wait_for grep -q 'background=0$' "$tmp/migrator.log" ||
  fail "the bulk pass is taken for over"
guest_goes_on guest
"$nbdmigrate" set "$(uri proxy)" rate=200M
start_lossy
wait_for has_events reconnected 1

echo "-- in sync"
wait_for is_ready
lose destination
guest_goes_on guest
start_lossy
wait_for has_events reconnected 2
wait_for is_ready

echo "-- the end is reached"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(completed losses)" = 2 ]
[ "$(completed reconnects)" = 2 ]
guest_goes_on guest
stop_guest guest
verify_cut guest "$(uri destination)"
grep 'was lost\|is back' "$tmp/migrator.log"
