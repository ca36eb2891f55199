#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# SIGINT, SIGTERM and SIGHUP end a migration in good order: exit status 3, and a
# last line that says who is authoritative; in its first moments, too.  One that is
# ignored stays ignored (nohup).  Where there is no standard output no message
# gets into what is opened instead.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

start_proxy proxy memory 2M
start_nbdkit destination memory 2M
fill "$(uri proxy)" 100
pair=("$(uri proxy)" "$(uri destination)")

is_copying ()
{
  has_status "$(uri proxy)" '.progress.phase == "bulk"'
}

last_line_is ()
{
  tail -n 1 "$tmp/$1.log" > "$tmp/last"
  grep -q "$2" "$tmp/last" || fail "the last line is: $(cat "$tmp/last")"
}

for signal in INT TERM HUP; do
  echo "-- SIG$signal, in the first moments"
  start_bg migrator env LD_PRELOAD="${LD_PRELOAD:-}:$BUILD/tests/at-once-preload.so" \
    AT_ONCE="$(kill -l $signal)" "$nbdmigrate" "${pair[@]}"
  expect_status 3 wait_bg migrator
  grep -q "interrupted by SIG$signal" "$tmp/migrator.log"
  last_line_is migrator 'nothing was done to\|is authoritative'

  echo "-- SIG$signal, while it copies"
  start_migrate --rate=64K "${pair[@]}"
  wait_for is_copying
  kill_bg migrator $signal
  expect_status 3 wait_bg migrator
  grep -q "interrupted by SIG$signal" "$tmp/migrator.log"
  last_line_is migrator 'is intact and authoritative'
  wait_for has_status "$(uri proxy)" '.session == false'
done

echo "-- ignored"
start_bg migrator nohup "$nbdmigrate" "${slow[@]}" --rate=64K "${pair[@]}"
wait_for is_copying
kill_bg migrator HUP
kill_bg migrator TERM
expect_status 3 wait_bg migrator
! grep -q SIGHUP "$tmp/migrator.log" || fail "SIGHUP was not ignored"

echo "-- without any standard descriptor"
start_bg migrator bash -c 'exec "$@" <&- >&- 2>&-' bash "$nbdmigrate" \
  "${slow[@]}" --json --progress --finish=detach "${pair[@]}"
wait_bg migrator || fail "exit status $?"
same_content "${pair[@]}"
