#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A flush of the source that the filter asks for by itself may be the one that hears
# of a write that was lost: then the guests hear of it as well, also whoever flushes,
# or writes with FUA, just then (R13).  And whoever has heard of it: what was lost
# keeps its mark in the dirty map, whatever succeeds later (R14).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/told-guest.sh
source "$SRCDIR/tests/told-guest.sh"

size=$((1024 * 1024))
S=$(uri proxy) D=$(uri destination)
when=$tmp/when

start_source ()
{
  hurried 5 start_nbdkit proxy -v --filter="$filter" "$lossy" \
    file="$tmp/source" multi-conn="$multi_conn" fail-flush-when="$when" \
    migrate-dir="$tmp/proxy.dir" migrate-chunk=65536
}

start_sides ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/source" "$tmp/destination"
  truncate -s $size "$tmp/source" "$tmp/destination"
  start_source
  start_nbdkit destination file "$tmp/destination"
  rm -f "$tmp/to" "$tmp/from"
  mkfifo "$tmp/to" "$tmp/from"
  "${told_guest[@]}" "$S" < "$tmp/to" > "$tmp/from" &
  guest=$!
  exec {to}> "$tmp/to" {from}< "$tmp/from"
}

ask ()
{
  echo "$1" >&"$to"
}

# expect ANSWER
expect ()
{
  read -r answer <&"$from"
  [ "$answer" = "$1" ] || fail "the guest was told: $answer, not: $1"
}

# So nothing of the disk is in memory only, and the map is exact.
end_sides ()
{
  exec {to}>&- {from}<&-
  wait "$guest"
  end_bg proxy
  start_source
  migrate --finish=detach "$@" "$S" "$D" ||
    fail "going on: $(cat "$tmp/migrate.log")"
  end_bg proxy
  end_bg destination
  cmp "$tmp/source" "$tmp/destination" || fail "the two sides differ"
}

end_migrator ()
{
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
}

has_failed ()
{
  [ ! -e "$when" ]
}

# has_come WORD FLUSHES: what the guest was told has come to the plugin, which has
# been flushed that often before.
has_come ()
{
  if [ "$1" = fua ]; then
    grep -q 'debug: lossy: pwrite .*offset=262144' "$tmp/proxy.log"
  else
    [ "$(grep -c 'debug: lossy: flush' "$tmp/proxy.log")" -gt "$2" ]
  fi
}

# The first flush of a migration is for what is allocated, others for the map.
for multi_conn in 0 1; do
  echo "-- a flush of the filter's fails; multi-conn=$multi_conn"
  start_sides
  ask write
  expect ok
  touch "$when"
  start_migrate --wait "$S" "$D"
  wait_for has_failed
  wait_for is_ready
  ask flush
  expect "$failed"
  ask flush
  expect ok
  end_migrator
  end_sides

  echo "-- one for the map"
  start_sides
  start_migrate --wait "$S" "$D"
  wait_for is_ready
  wait_for has_status "$S" '.dirty_map.marked_bytes == 0'
  touch "$when"
  ask write
  expect ok
  wait_for has_failed
  ask flush
  expect "$failed"
  ask flush
  expect ok
  end_migrator
  end_sides

  for word in flush fua; do
    echo "-- beside a guest's: $word"
    start_sides
    ask write
    expect ok
    rm -f "$when.answer"
    touch "$when.late" "$when"
    start_migrate --wait "$S" "$D"
    wait_for has_failed
    n=$(grep -c 'debug: lossy: flush' "$tmp/proxy.log")
    ask "$word"
    wait_for has_come "$word" "$n"
    touch "$when.answer"
    expect "$failed"
    wait_for is_ready
    end_migrator
    end_sides
  done

  echo "-- a flush of the guest's fails"
  start_sides
  must_migrate --finish=detach "$S" "$D"
  wait_for has_status "$S" '.dirty_map.marked_bytes == 0'
  ask write
  expect ok
  touch "$when"
  ask flush
  expect "$failed"
  must_migrate --finish=detach --incremental "$S" "$D"
  end_sides --incremental
done
