#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Servers that are silent when a migration starts are waited for, which is said.
# And a destination that was stopped while the migration waits, in sync, for
# "finish": its connections are open, and nothing is left to be copied, so only
# a round trip tells.  Nothing is cut over until it answers; the guest goes on.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((4 * 1024 * 1024))
start_proxy proxy memory $size
start_nbdkit destination memory $size
fill "$(uri proxy)" 100

echo "-- stopped when it is to be connected to"
kill_bg destination STOP
start_migrate "$(uri proxy)" "$(uri destination)"
wait_for grep -qF "$(uri destination) does not answer the connection attempt" \
  "$tmp/migrator.log"
kill_bg destination CONT
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"

# The guest's requests from before have to end first.
echo "-- the place that the disk is to leave does not answer"
start_nbdkit next memory $size
start_guest guest "$(uri proxy)" --initial any --rate 1M
kill_bg destination STOP
wait_for has_status "$(uri proxy)" '.relay.oldest_request_ms > 0 and
                                    .in_flight_requests > 0'
start_migrate "$(uri proxy)" "$(uri next)"
wait_for grep -qF "$(uri destination), where the disk is, has not answered" \
  "$tmp/migrator.log"
kill_bg destination CONT
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
stop_guest guest
verify_final guest "$(uri next)"
rm "$tmp/guest.record"

# Nobody knows of what was before: nor waits for what was not answered then.
start_anew ()
{
  end_bg proxy
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy memory $size
  fill "$(uri proxy)" 100
}

start_anew

# As far as the requests go, all is well.  Options are the migrator's.
wait_in_sync ()
{
  start_migrate --wait "$@" "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  wait_for has_status "$(uri proxy)" \
    '.remaining_bytes == 0 and .unflushed_bytes == 0'
}

said ()
{
  grep -qF -- "$1" "$tmp/migrator.log"
}

# not_cut_over GUEST: it writes on, to its source.
not_cut_over ()
{
  guest_goes_on "$1"
  is_running "${pids[migrator]}" || fail "the migrator ended"
  must_have_status "$(uri proxy)" '.owner == "source" and .session and
                                   .gate == "open" and .gates_expired == 0'
}

# With --verify connections of their own are read back over: it is one server.
echo "-- it is shown while nothing is asked for, and said once"
wait_in_sync --verify
kill_bg destination STOP
wait_for has_status "$(uri proxy)" '.progress.silent == "destination"'
"$nbdmigrate" status "$(uri proxy)" | grep 'no answer from the destination'
wait_for said "has answered nothing for"
kill_bg destination CONT
wait_for said "answers again"
wait_for has_status "$(uri proxy)" '.progress.silent == null'
for words in "has answered nothing for" "answers again"; do
  [ "$(grep -cF "$words" "$tmp/migrator.log")" = 1 ] || fail "said twice: $words"
done

for finish in handover pivot; do
  echo "-- finish $finish"
  kill_bg destination STOP
  "$nbdmigrate" finish --no-wait "$(uri proxy)" $finish
  wait_for said "$(uri destination) does not answer"
  start_guest guest "$(uri proxy)" --initial "$pattern" --rate 1M
  not_cut_over guest
  if [ $finish = handover ]; then
    "$nbdmigrate" cancel "$(uri proxy)"
    expect_status 3 wait_bg migrator
    guest_goes_on guest
    stop_guest guest
    kill_bg destination CONT
    verify_final guest "$(uri proxy)"
    rm "$tmp/guest.record"
    start_anew
    wait_in_sync
  fi
done

echo "-- it is cut over when it answers again"
kill_bg destination CONT
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(completed finish)" = pivot ]
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri destination)"
end_bg proxy
