#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The guest first: the copy rests now and then to see what it costs the guest,
# but not where that was not asked for, nor where nobody is, nor any more.  How
# much guests keep is the unit test's affair, and the benchmark's.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

# A disk that does one request at a time, a millisecond each: what the copy has
# in its queue goes before the guest's.
# start_disk PLUGIN...
start_disk ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/guest.record"
  start_nbdkit disk --filter=noparallel --filter=delay "$@" \
    serialize=all-requests delay-read=1ms delay-write=1ms
}

# start SIZE
start ()
{
  start_disk memory "$1"
  start_proxy proxy nbd "$(uri disk)"
  start_nbdkit destination memory "$1"
  fill "$(uri proxy)" 100 > "$tmp/fill.out"
}

backs_off ()
{
  [ "$(event 'any(.event == "policy" and .decision == "background")')" = true ]
}

bulk_is_over ()
{
  [ "$(event 'map(select(.event == "phase")) | length > 1')" = true ]
}

# has_progress EXPRESSION: of the latest report.
has_progress ()
{
  [ "$(event "map(select(.event == \"progress\")) | last | $1")" = true ]
}

# had_progress EXPRESSION: of one report at least.
had_progress ()
{
  [ "$(event "map(select(.event == \"progress\")) | any($1)")" = true ]
}

# move SIZE BACKGROUND CONDITION...: until that is so.
move ()
{
  start "$1"
  start_guest guest "$(uri proxy)" --depth 1 --kinds rw --initial "$pattern"
  start_migrate --background="$2" --request-size=16K --wait "$(uri proxy)" \
    "$(uri destination)"
  must_live=(migrator)
  shift 2
  "$@"
  must_live=()
  "$nbdmigrate" cancel "$(uri proxy)"
  expect_status 3 wait_bg migrator
  stop_guest guest
  end_bg proxy
  end_bg disk
  end_bg destination
}

for bad in -1 101 half ''; do
  expect_status 2 migrate "--background=$bad" nbd://a nbd://b
done

status_tells_limit ()
{
  "$nbdmigrate" status "$(uri proxy)" |
    grep -qE '^background +100, no more than [0-9.]+ .iB/s are copied for now$'
}

# What the bulk is limited to is seen from other terminals, too.
is_limited ()
{
  wait_for backs_off
  wait_for status_tells_limit
  wait_for had_progress '.background_rate > 0'
}

echo "-- a guest that loses much beside the copy"
move 48M 100 is_limited
grep 'without the copy: for its sake' "$tmp/migrator.log" || fail "not said"

echo "-- not asked for"
move 8M 0 wait_for bulk_is_over
if backs_off || had_progress '.background_rate > 0'; then
  fail "something was done for the guest"
fi

echo "-- asked for on the way, and no more"
ask_on_the_way ()
{
  wait_for has_progress '.background == 0'
  "$nbdmigrate" set "$(uri proxy)" background=100
  wait_for backs_off
  wait_for has_progress '.background == 100'
  "$nbdmigrate" set "$(uri proxy)" background=0
  wait_for has_progress '.background == 0'
}
move 48M 0 ask_on_the_way
grep -q 'background=100$' "$tmp/migrator.log" || fail "not said"

echo "-- a guest that rests now and then: no limit is left, which is said once"
limit_is ()
{
  [ "$(event "map(select(.decision == \"background\")) |
                last.reason // \"\" | test(\"$1\")")" = true ]
}
head -c 192M /dev/urandom > "$tmp/disk.img"
start_disk file "$tmp/disk.img"
start_proxy proxy nbd "$(uri disk)"
start_nbdkit destination memory 192M
start_guest guest "$(uri proxy)" --depth 1 --kinds rw --initial any
start_migrate --background=100 --request-size=16K --rate=8M "$(uri proxy)" \
  "$(uri destination)"
must_live=(migrator)
for ((i = 0; i < 2; i++)); do
  wait_for limit_is 'for its sake'
  kill_bg guest STOP
  wait_for limit_is 'without a limit now'
  kill_bg guest CONT
done
wait_for limit_is 'for its sake'
must_live=()
"$nbdmigrate" cancel "$(uri proxy)"
expect_status 3 wait_bg migrator
stop_guest guest
for words in 'for its sake' 'without a limit now'; do
  [ "$(grep -c "$words" "$tmp/migrator.log")" -eq 1 ] ||
    fail "not once: $words"
done
