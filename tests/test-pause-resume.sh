#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# `pause` stops the copying in whatever phase, without a cut-over, while the
# guest goes on and what it writes is tracked; `resume` goes on with it.  Both
# count also when they come while the gate is shut.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

size=$((8 * 1024 * 1024))
truncate -s $size "$tmp/source.img"
mkdir "$tmp/source.cue"
start_proxy proxy "$BUILD/tests/nbdkit-late-plugin.so" \
  file="$tmp/source.img" cue="$tmp/source.cue" migrate-max-gate=60s
start_nbdkit destination memory $size
S=$(uri proxy) D=$(uri destination)
fill "$S" 100
start_guest guest "$S" --initial "$pattern" --rate 6M

is_paused ()
{
  has_status "$S" .progress.paused
}

# Whatever was under way when it was paused has ended.
copies_nothing ()
{
  local before

  before=$(status .progress.copied_bytes)
  guest_goes_on guest 5
  [ "$(status .progress.copied_bytes)" = "$before" ]
}

# paused_in PHASE: it copies nothing, however fast it may.
paused_in ()
{
  wait_for is_paused
  "$nbdmigrate" set "$S" rate=0
  wait_for has_status "$S" '.progress.rate == 0'
  wait_for copies_nothing
  copies_nothing || fail "something was copied while it was paused"
  must_have_status "$S" ".progress.phase == \"$1\" and .session and .tracking
                         and .remaining_bytes > 0 and .gate == \"open\" and
                         .progress.eta_ms == null"
  "$nbdmigrate" status "$S" > "$tmp/status"
  grep -q '^migration .*paused' "$tmp/status" || fail "status does not say so"
  grep -q "^progress .*paused" "$tmp/status" || fail "nor does the progress"
  expect_status 1 "$nbdmigrate" finish --no-wait "$S" 2> "$tmp/said"
  grep -q 'is paused' "$tmp/said"
}

echo "-- no migration"
for command in pause resume; do
  expect_status 1 "$nbdmigrate" $command "$S" 2> "$tmp/said"
  grep -q 'no migration' "$tmp/said"
done

nr_progress ()
{
  event 'map(select(.event == "progress")) | length'
}

has_progress ()
{
  [ "$(nr_progress)" -ge "$1" ]
}

echo "-- no cut-over, though there is nothing to copy"
stop_guest guest
start_migrate --wait --max-pause=4s "$S" "$D"
wait_for is_ready
"$nbdmigrate" pause "$S"
wait_for is_paused
start_talker proxy
talk attach
talk wish '{"finish": "detach"}' # the command would be refused
stop_talker
wait_for has_status "$S" '.progress.wait == false'
wait_for has_progress $(($(nr_progress) + 3))
must_have_status "$S" '.session and .gate == "open"'
! has_event pause || fail "it was cut over while it was paused"
"$nbdmigrate" resume "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
same_content "$S" "$D"

echo "-- finish right after pause, and after resume"
start_migrate --wait --finish=detach --max-pause=4s "$S" "$D"
wait_for is_ready
"$nbdmigrate" pause "$S"
expect_status 1 "$nbdmigrate" finish --no-wait "$S" 2> "$tmp/said"
grep -q 'is paused' "$tmp/said"
"$nbdmigrate" resume "$S"
"$nbdmigrate" finish "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
start_guest guest "$S" --resume --rate 6M

echo "-- in the bulk pass, and cancelled"
start_migrate --rate=64K "$S" "$D"
wait_for has_status "$S" '.progress.phase == "bulk"'
"$nbdmigrate" pause "$S"
paused_in bulk
"$nbdmigrate" cancel "$S"
expect_status 3 wait_bg migrator

echo "-- another run is not paused"
must_migrate --finish=detach --max-pause=4s "$S" "$D"
verify_cut guest "$D"

echo "-- in sync"
start_migrate --wait --max-pause=4s "$S" "$D"
wait_for is_ready
"$nbdmigrate" pause "$S"
paused_in ready
"$nbdmigrate" resume "$S"
wait_for has_status "$S" '.progress.paused == false'
guest_goes_on guest 20
[ "$(event 'map(.event | select(. == "paused" or . == "resumed")) |
            join(" ")')" = "paused resumed" ]
"$nbdmigrate" finish --no-wait "$S" detach
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_cut guest "$D"

echo "-- with the gate shut"
start_migrate --wait --max-pause=60s "$S" "$D"
wait_for is_ready
: > "$tmp/source.cue/log"
cue source 'write hold until=go'
wait_for late_has source 'came$'
"$nbdmigrate" finish --no-wait "$S"
wait_for has_status "$S" '.gate == "closed"'
"$nbdmigrate" pause "$S"
cue source
go source go
wait_for is_paused
wait_for has_event pause
guest_goes_on guest 20
[ "$(event 'map(select(.event == "pause") | .result) | join(" ")')" = expired ] ||
  fail "the pause was tried again meanwhile"
must_have_status "$S" '.owner == "source" and .gate == "open"'
"$nbdmigrate" resume "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
must_have_status "$S" '.owner == "destination"'
guest_goes_on guest 20
stop_guest guest
verify_final guest "$D"
end_bg proxy
