#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# A guest that writes faster than the destination takes it: the migration ends
# all the same, with its writes mirrored or slowed down, and says so; of two
# disks, too.  With --converge=off, or when that is set on the way, it gives up
# with exit status 4, in bounded time, and says what it would have needed; and
# with --policy=explain it says what it would do, and does not do it.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((4 * 1024 * 1024))

# start_slow NAME: bits per second; the burst is what it takes in 0.05 s.
start_slow ()
{
  start_nbdkit "$1" --filter=rate memory $size rate=64M burstiness=0.05
}

# is_told DECISION TEXT: by an event of the policy.
is_told ()
{
  event "map(select(.event == \"policy\" and .decision == \"$1\") | .reason)" |
    grep -q "$2" || fail "$1 is not told with '$2': $(grep policy "$tmp/events")"
}

start_proxy proxy memory $size
start_slow destination
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern" --depth 4
common=(--finish=detach --max-pause=50ms "$(uri proxy)" "$(uri destination)")

echo "-- off"
expect_status 4 migrate --converge=off "${common[@]}"
is_told give-up 'a pause of about .* would have been needed'
guest_goes_on guest

echo "-- explained only"
expect_status 4 migrate --converge=throttle --policy=explain "${common[@]}"
event 'map(select(.event == "policy" and .decision == "throttle")) |
  length > 0 and all(.explained_only)' | grep -qx true
must_have_status "$(uri proxy)" '.throttle.bytes_per_second == 0 and
  .throttle.delayed_requests == 0'
guest_goes_on guest

echo "-- the throttle, and a floor above what is copied"
expect_status 4 migrate --converge=throttle --throttle-floor=100M "${common[@]}"
grep -q 'guests may always write 100.0 MiB/s (--throttle-floor), which is too much here' \
  "$tmp/migrate.log"
guest_goes_on guest

echo "-- no mirror without multi-conn"
start_nbdkit alone --filter=rate --filter=multi-conn memory $size rate=64M \
  burstiness=0.05 multi-conn-mode=disable
expect_status 4 migrate --converge=mirror --finish=detach --max-pause=50ms \
  "$(uri proxy)" "$(uri alone)"
grep -q 'does not announce multi-conn' "$tmp/migrate.log"
guest_goes_on guest
end_bg alone

echo "-- the throttle, and a second disk that is quiet"
start_proxy quiet memory 1M
start_nbdkit elsewhere memory 1M
must_migrate --converge=throttle "${common[@]}" "$(uri quiet)" \
  "$(uri elsewhere)"
is_told throttle 'guests may write'
verify_cut guest "$(uri destination)"
must_have_status "$(uri proxy)" '.throttle.bytes_per_second == 0'
guest_goes_on guest
end_bg quiet

echo "-- whatever it takes"
must_migrate "${common[@]}"
verify_cut guest "$(uri destination)"
guest_goes_on guest
stop_guest guest
