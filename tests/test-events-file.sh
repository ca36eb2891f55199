#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --events=FILE: the same events as --json prints; a file that cannot be opened, or
# that another nbdmigrate writes to, is refused before anything is done; one that
# cannot be written to any more is said once, and the migration goes on.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq mkfifo

start_proxy proxy memory 4M
start_nbdkit destination memory 4M
start_nbdkit other memory 4M
file=$tmp/kept.json

# refused STATUS TEXT ARGUMENT...: with this message, and nothing was done.
refused ()
{
  local status=$1 text=$2

  shift 2
  expect_status "$status" migrate --finish=detach "$@" "$(uri proxy)" \
    "$(uri other)"
  grep -qF "$text" "$tmp/migrate.log" || fail "$*: $(cat "$tmp/migrate.log")"
  [ "$(nbdcopy "$(uri other)" - | tr -d '\0' | wc -c)" -eq 0 ] ||
    fail "$*: something was written"
}

echo "-- beside --json, over what was there"
fill "$(uri proxy)" 50
printf 'nonsense %d\n' {1..5000} > "$file"
must_migrate --finish=detach --events="$file" "$(uri proxy)" \
  "$(uri destination)"
cmp "$tmp/events" "$file" || fail "the file differs from --json"
[ "$(event '.[-1].event')" = completed ]

echo "-- alone"
"$nbdmigrate" --quiet --finish=detach --incremental --events="$file" \
  "$(uri proxy)" "$(uri destination)" > "$tmp/stdout"
[ ! -s "$tmp/stdout" ] || fail "stdout: $(cat "$tmp/stdout")"
jq -s -e '.[0].event == "started" and .[-1].event == "completed"' "$file" \
  > "$tmp/jq.out"

echo "-- that cannot be written to"
must_migrate --finish=detach --incremental --events=/dev/full "$(uri proxy)" \
  "$(uri destination)"
[ "$(grep -c 'writing JSON events to /dev/full: No space' \
       "$tmp/migrate.log")" -eq 1 ] || fail "$(cat "$tmp/migrate.log")"
[ "$(event '.[-1].event')" = completed ] || fail "stdout ends, too"

echo "-- that cannot be opened"
mkfifo "$tmp/fifo"
refused 1 "opening '$tmp/fifo' for the JSON events: nobody reads" \
  --events="$tmp/fifo"
refused 1 "opening '$tmp' for the JSON events: Is a directory" --events="$tmp"
refused 1 "No such file" --events="$tmp/none/file"
refused 2 "must be the path of a file" --events=

echo "-- that another one writes to"
start_bg migrator "$nbdmigrate" --json --wait --finish=detach --incremental \
  --events="$file" "$(uri proxy)" "$(uri destination)"
wait_for is_ready
refused 1 "another nbdmigrate writes to it" --events="$file"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator
cmp "$tmp/migrator.out" "$file" || fail "the file differs from --json"
