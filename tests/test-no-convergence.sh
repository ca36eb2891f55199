#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A guest that writes faster than the destination takes it: the migrator gives
# up in bounded time, with exit status 4, and says which pause would have been
# needed.  With that pause it works.  Where it takes long, it is said before that
# the guest is too fast, and the progress of a pass that grows stays consistent.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy jq

start_proxy proxy memory 2M
# Bits per second; the burst is what it takes in 0.05 s.
start_nbdkit destination --filter=rate memory 2M rate=64M burstiness=0.05
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern"

off=(--converge=off --throttle-floor=2M)
expect_status 4 migrate --finish=detach "${off[@]}" --max-pause=20ms \
  "$(uri proxy)" "$(uri destination)"
cat "$tmp/migrate.log"
grep -q 'throttle-floor has no effect with --converge=off' "$tmp/migrate.log"
[ "$(event 'map(select(.event == "failed")) | last | .status')" -eq 4 ]
[ "$(event 'map(select(.event == "policy")) | last | .decision')" = give-up ]
[ "$(event 'map(select(.event == "failed")) | last | .passes')" -le 30 ]
grep -qE 'pause.*[0-9]+ m?s' "$tmp/migrate.log" ||
  fail "it does not say which pause would have been needed"
tail -n 1 "$tmp/migrate.log" | grep -q 'source .* authoritative'
guest_goes_on guest

must_migrate --finish=detach "${off[@]}" --max-pause=3s \
  "$(uri proxy)" "$(uri destination)"
verify_cut guest "$(uri destination)"
stop_guest guest
verify_final guest "$(uri proxy)"

echo "-- a guest that adds to a pass, which the rate makes slow"
start_proxy large memory 256M migrate-chunk=64K
start_nbdkit copy --filter=rate memory 256M rate=64M burstiness=0.05
must_migrate --finish=detach "$(uri large)" "$(uri copy)"
head -c 32M /dev/urandom | nbdcopy -- - "$(uri large)"
start_migrate --finish=detach --incremental --rate=4M --max-pause=20ms \
  "$(uri large)" "$(uri copy)"
wait_for has_status "$(uri large)" \
  '.progress | .phase == "bulk" and .pass_total_bytes == 33554432'
start_guest adding "$(uri large)" --initial any --rate 4M

is_overrun ()
{
  has_event progress && event 'map(select(.event == "progress")) | last |
    .pass_bytes > 33554432' | grep -qx true
}
wait_for is_overrun
event 'map(select(.event == "progress")) | last |
  .phase == "bulk" and .eta_ms == null and .percent < 50 and
  .pass_total_bytes == .pass_bytes + .remaining_bytes and
  .predicted_pause_ms > 100' | grep -qx true ||
  fail "the progress is not consistent: $(tail -n 1 "$tmp/events")"
is_told ()
{
  grep -q 'the guest writes too fast for the copy .*rate=SIZE' \
    "$tmp/migrator.log"
}
wait_for is_told
kill_bg migrator TERM
expect_status 3 wait_bg migrator
[ "$(grep -c 'writes too fast' "$tmp/migrator.log")" -eq 1 ]
stop_guest adding
