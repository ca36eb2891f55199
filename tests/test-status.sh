#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# `nbdmigrate status`, for people and as JSON: before a migration, during one,
# after it was interrupted and after it ended.  And the progress that the
# migrator itself shows never runs backwards within a pass.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((8 * 1024 * 1024 + 100))
start_proxy proxy memory $size
start_nbdkit destination memory $size
fill "$(uri proxy)" 100

# status_is EXPRESSION: jq over the status, must be true.
status_is ()
{
  "$nbdmigrate" status --json "$(uri proxy)" > "$tmp/status.json"
  jq -e "$1" "$tmp/status.json" > "$tmp/jq.out" ||
    fail "not so: $1 in $(cat "$tmp/status.json")"
}

# status_says WORD...
status_says ()
{
  local word

  "$nbdmigrate" status "$(uri proxy)" > "$tmp/status.text"
  cat "$tmp/status.text"
  for word; do
    grep -qi -- "$word" "$tmp/status.text" || fail "status does not say: $word"
  done
}

# status_omits WORD...: of what it said last.
status_omits ()
{
  local word

  for word; do
    ! grep -q -- "^$word " "$tmp/status.text" || fail "status says: $word"
  done
}

echo "-- before"
status_says "^place  *the proxy.s local image"
status_is '.owner == "source" and .tracking == false and .session == false and
           .gate == "open" and .last_end == "none" and .progress == null and
           .disk_bytes == '$size' and .chunk_bytes == 4096 and
           .dirty_bytes == 0 and (.id | test("^[0-9a-f]{16}$"))'

is_copying ()
{
  grep -q '"progress".*"phase": *"bulk"' "$tmp/events"
}

echo "-- during"
start_migrate --finish=detach --rate=256K --progress=9 --policy=explain \
  "$(uri proxy)" "$(uri destination)" 9> "$tmp/progress"
wait_for is_copying
status_is ".session == true and .tracking == true and
           .destination == \"$(uri destination)\" and
           .progress.phase == \"bulk\" and .progress.percent < 100 and
           .progress.rate == 262144 and .remaining_bytes > 0 and
           .progress.explained_only"
status_says bulk "256.0 KiB/s" '%' '^dirty rate' '^gate  *open' '^left' '^place .*local image' \
  '^converge  *auto, only explained$'
[ "$(grep '^requests' "$tmp/status.text" | wc -L)" -le 60 ] ||
  fail "a line is too long"

echo "-- interrupted"
kill_bg migrator TERM
expect_status 3 wait_bg migrator
status_is '.session == false and .tracking == true and
           .last_end == "interrupted"'
status_says interrupted '^left'
status_omits 'dirty rate' gate

echo "-- after"
start_migrate --finish=detach --rate=16M --progress=9 \
  "$(uri proxy)" "$(uri destination)" 9>> "$tmp/progress"
wait_bg migrator || fail "the migration ended with exit status $?"
status_is '.session == false and .last_end == "detached" and
           .owner == "source"'
status_says detached '^left  *0 B'
status_omits 'dirty rate' gate dirty

echo "-- progress"
event 'map(select(.event == "progress"))' | jq -e '
  group_by(.pass) | map([.[].percent]) |
  all(. == sort and all(. >= 0 and . <= 100))' > "$tmp/jq.out" ||
  fail "the percentage ran backwards: $(event 'map(.percent)')"
grep -qx '100/100' "$tmp/progress"
! grep -qvx '[0-9]*/100' "$tmp/progress" ||
  fail "not N/100: $(cat "$tmp/progress")"

echo "-- a destination that does not answer"
# Twice as long what it is sent later may change after the end.
silent_ms=${SANITIZER:+10000}
start_migrate --finish=detach --restart --rate=1M \
  "$(uri proxy)" "$(uri destination)"
wait_for is_copying
kill_bg destination STOP
wait_for has_status "$(uri proxy)" \
  '.progress | .silent == "destination" and .silent_ms >= '"${silent_ms:-3000}"
status_says 'no answer from the destination for [0-9]* s'
kill_bg destination CONT
wait_for has_status "$(uri proxy)" '.progress.silent == null'

echo "-- cancelled while it does not answer: what may still change is shown"
kill_bg destination STOP
wait_for has_status "$(uri proxy)" '.leased_bytes > 0'
"$nbdmigrate" cancel "$(uri proxy)"
status_says '^migration  *cancelled' '^uncertain .*may change'
expect_status 3 wait_bg migrator
! grep 'control connection' "$tmp/migrator.log" ||
  fail "it complains of what the user asked for"
kill_bg destination CONT

echo "-- a handover, and taken back"
end_bg proxy
rm -r "$tmp/proxy.dir" # or it would wait for what may still change
start_proxy proxy memory $size
start_nbdkit other memory $size
must_migrate --finish=handover "$(uri proxy)" "$(uri other)"
status_says '^place  *handed over' "^destination  *$(uri other)"
status_omits 'dirty rate' gate dirty left
"$nbdmigrate" reopen "$(uri proxy)"
status_is '.owner == "source" and .last_end == "none"'
status_says '^migration  *none'
status_omits 'dirty rate' gate dirty left
