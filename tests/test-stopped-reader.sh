#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A reader that does not read stdout or stderr stops no migration: pipes that are
# full, a terminal whose output is stopped (Ctrl-S).  The copying goes on, signals
# are seen, the exit status is as usual.  A reader that comes back finds whole
# events in order, the last one among them.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq script mkfifo

for i in 1 2 3; do
  start_proxy proxy$i memory 8M
  start_nbdkit destination$i memory 8M
  fill "$(uri proxy$i)" 100
done

# full_pipe NAME FD: $tmp/NAME, held open by FD, takes nothing any more.
full_pipe ()
{
  mkfifo "$tmp/$1"
  eval "exec $2<> '$tmp/$1'"
  dd if=/dev/zero of="$tmp/$1" bs=4096 oflag=nonblock 2> "$tmp/dd.err" || :
  grep -q 'temporarily unavailable' "$tmp/dd.err" ||
    fail "the pipe is not full: $(cat "$tmp/dd.err")"
}

# start_with NAME REDIRECTIONS COMMAND...: in the background, and no end of the
# pipes but its own.
start_with ()
{
  start_bg "$1" bash -c "exec \"\$@\" $2 6>&- 7>&- 8>&- 9>&-" bash "${@:3}"
}

is_phase ()
{
  has_status "$(uri "$1")" ".progress.phase == \"$2\""
}

full_pipe out 7
full_pipe err 8
full_pipe events 9
mkfifo "$tmp/keys"
exec 6<> "$tmp/keys"

echo "-- a terminal that is stopped"
start_with terminal "< '$tmp/keys'" script -qefc \
  "$nbdmigrate ${slow[*]} --wait --finish=detach \
   $(uri proxy3) $(uri destination3)" "$tmp/typescript"
wait_for is_file "$tmp/typescript"
wait_for grep -q 'in sync' "$tmp/typescript"
printf '\023' >&6

# Nothing new is there although there was something to be said.
stands_still ()
{
  local size

  size=$(stat -c %s "$tmp/typescript")
  rate=$((rate + 1))
  "$nbdmigrate" set "$(uri proxy3)" "rate=${rate}M"
  wait_for has_status "$(uri proxy3)" ".progress.rate == $rate * 1048576"
  [ "$(stat -c %s "$tmp/typescript")" -eq "$size" ]
}
rate=100
wait_for stands_still

echo "-- both full, and nobody will ever read: a signal"
start_with stuck "> '$tmp/out' 2> '$tmp/err'" "$nbdmigrate" "${slow[@]}" \
  --json --progress --finish=detach --rate=64K \
  "$(uri proxy1)" "$(uri destination1)"
wait_for is_phase proxy1 bulk
kill_bg stuck INT

echo "-- stdout is full for a while"
start_with late "> '$tmp/events'" "$nbdmigrate" "${slow[@]}" \
  --json --wait --finish=detach \
  "$(uri proxy2)" "$(uri destination2)"
wait_for is_phase proxy2 ready
start_with reader "< '$tmp/events'" tr -d '\0'
"$nbdmigrate" finish --no-wait "$(uri proxy2)"
"$nbdmigrate" finish --no-wait "$(uri proxy3)"

expect_status 3 wait_bg stuck
wait_bg late || fail "exit status $?"
exec 9>&-
wait_bg reader
jq -es 'map(.event) as $e |
        $e[0] == "started" and $e[-1] == "completed" and
        ($e | index("progress")) != null and (map(.time) | . == sort) and
        .[-1].dropped_events == 0' "$tmp/reader.out" > "$tmp/jq.out" ||
  fail "not all events, in order: $(cat "$tmp/reader.out")"
tail -n 1 "$tmp/late.log" > "$tmp/last"
grep -q 'is authoritative' "$tmp/last"
same_content "$(uri proxy2)" "$(uri destination2)"

wait_bg terminal || fail "the one at the terminal: exit status $?"
same_content "$(uri proxy3)" "$(uri destination3)"

echo "-- both full, and nobody will ever read: to the end"
start_with stuck "> '$tmp/out' 2> '$tmp/err'" "$nbdmigrate" "${slow[@]}" \
  --json --progress --finish=detach \
  "$(uri proxy1)" "$(uri destination1)"
wait_bg stuck || fail "exit status $?"
same_content "$(uri proxy1)" "$(uri destination1)"
