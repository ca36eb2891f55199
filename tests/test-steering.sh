#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# A running migration is steered from another terminal: `set` changes rate and
# longest pause, and `status` shows what is in force; `finish` ends --wait, and
# may choose another end; `cancel` leaves the guest on its source with tracking
# off.  Naming one of several disks means all of them.  A rate never holds up
# the final pass.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq

MiB=$((1024 * 1024))
size=$((16 * MiB + 512))
for i in 1 2; do
  start_proxy proxy$i memory $size
  start_nbdkit destination$i memory $size
done
S1=$(uri proxy1) S2=$(uri proxy2)
D1=$(uri destination1) D2=$(uri destination2)
fill_all 100 "$S1" "$S2"

is_phase ()
{
  has_status "$S1" ".progress.phase == \"$1\""
}

# said STATUS TEXT COMMAND...: with this exit status and text.
said ()
{
  local status=$1 text=$2

  shift 2
  expect_status "$status" "$nbdmigrate" "$@" 2> "$tmp/said"
  cat "$tmp/said"
  grep -qF -- "$text" "$tmp/said" || fail "this is not said: $text"
}

# A rate at which nothing ends: 64 KiB a second.
crawl=65536

echo "-- nothing is running"
said 1 'no migration' set "$S1" rate=1M
said 1 'no migration' finish "$S1"
said 1 'no migration' finish "$S1" detach
said 1 'nothing is tracked, so there is nothing to cancel' cancel "$S1"
has_status "$S1" '.tracking == false and .session == false and
                  .last_end == "none"'
"$nbdmigrate" status "$S1" | grep -q '^migration  *none'

echo "-- set"
start_guest_on guest "$S1" "$S2" -- --initial "$pattern" --rate 4M
start_migrate --finish=detach --rate=$crawl --max-pause=300ms \
  "$S1" "$D1" "$S2" "$D2"
wait_for is_phase bulk
has_status "$S2" ".progress.rate == $crawl and .progress.max_pause_ms == 300"
"$nbdmigrate" status "$S2" > "$tmp/status"
grep -q '^rate  *64.0 KiB/s' "$tmp/status"
grep -q '^finish  *detach$' "$tmp/status"
grep -qE '^background +50(,|$)' "$tmp/status"
grep -q '^converge  *auto$' "$tmp/status"
grep -q '^progress  *2 disks: bulk' "$tmp/status"
"$nbdmigrate" set "$S2" rate=128K max-pause=100ms
wait_for has_status "$S1" '.progress.rate == 131072'
has_status "$S1" '.progress.max_pause_ms == 100'
"$nbdmigrate" status "$S1" | grep -q '^max pause  *100 ms'
said 2 rate=1X set "$S1" rate=1X
said 0 'rate=128 is 128 bytes per second' set "$S1" rate=128
wait_for has_status "$S1" '.progress.rate == 128'
"$nbdmigrate" set "$S1" rate=128K
wait_for has_status "$S1" '.progress.rate == 131072'
said 2 max-pause=0 set "$S1" max-pause=0
said 2 speed=1M set "$S1" speed=1M
said 2 missing set "$S1"
said 1 migrate-max-gate set "$S1" max-pause=1h
has_status "$S1" '.progress.rate == 131072 and .progress.max_pause_ms == 100'

echo "-- rate=0 is unlimited"
"$nbdmigrate" set "$S1" rate=0
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
guest_goes_on guest
verify_one_instant guest "$D1" "$D2" || fail "the copies are wrong"

echo "-- cancel with nothing but the tracking since a detach"
said 0 'the tracking since the detach is dropped' cancel "$S2"
has_status "$S2" '.tracking == false and .last_end == "aborted"'
said 1 'nothing to cancel' cancel "$S2"
has_status "$S2" '.last_end == "aborted"'

echo "-- cancel, asked of one disk"
start_migrate --finish=pivot --rate=$crawl "$S1" "$D1" "$S2" "$D2"
wait_for is_phase bulk
said 0 'is cancelled' cancel "$S2"
expect_status 3 wait_bg migrator
for u in "$S1" "$S2"; do
  must_have_status "$u" '.tracking == false and .session == false and
                         .owner == "source" and .last_end == "aborted" and
                         .gate == "open"'
done
guest_goes_on guest

echo "-- nothing of it is kept"
start_migrate --finish=detach --rate=$crawl "$S1" "$D1" "$S2" "$D2"
wait_for has_event started
[ "$(event 'map(select(.event == "started")) | last |
            .disks | map(.resumed) | any')" = false ]

echo "-- a migrator that is stopped is cancelled all the same"
kill_bg migrator STOP
touch "$tmp/hurry"
hurried 5 "$nbdmigrate" cancel "$S1"
has_status "$S1" '.tracking == false and .session == false'
kill_bg migrator CONT
WAIT_SECONDS=60 expect_status 1 wait_bg migrator
guest_goes_on guest
"$nbdmigrate" cancel "$S2"
has_status "$S2" '.tracking == false and .session == false'

echo "-- finish ends the waiting, with another end, and in spite of the rate"
start_migrate --finish=handover --wait "$S1" "$D1" "$S2" "$D2"
wait_for is_phase ready
has_status "$S2" '.progress.finish == "handover"'
guest_goes_on guest
is_phase ready
stop_guest guest
said 2 never finish "$S1" never
# At this rate what the guest writes now would take minutes to copy.
"$nbdmigrate" set "$S1" rate=$crawl max-pause=5s
wait_for has_status "$S1" ".progress.rate == $crawl"
start_guest_on guest "$S1" "$S2" -- --resume --rate 4M
wait_for has_status "$S1" ".progress.remaining_bytes > $((8 * MiB))"
"$nbdmigrate" finish --no-wait "$S2" pivot
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
[ "$(completed finish)" = pivot ]
echo "pause $(completed pause_ms) ms"
guest_goes_on guest
stop_guest guest
for u in "$S1" "$S2"; do
  has_status "$u" '.owner == "destination"'
done
verify_all_final guest "$D1" "$D2"
said 1 "was pivoted, and is at $D1 now" cancel "$S1"
has_status "$S1" '.owner == "destination" and .last_end == "pivoted"'
for i in 1 2; do
  end_bg proxy$i
done
