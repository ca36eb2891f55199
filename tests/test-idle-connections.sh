#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A balancer or firewall closes connections to the destination that hold nothing
# in flight or unflushed: a migration that waits, in sync, makes them anew and
# goes on.  Where none can be had any more it ends, with the guest unharmed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/between.sh
source "$SRCDIR/tests/between.sh"
requires nbdkit jq ss

size=$((4 * 1024 * 1024 + 512))
start_proxy proxy memory $size
start_nbdkit destination memory $size
start_between between "" "unix:$tmp/destination.sock"
fill "$(uri proxy)" 60
D=$(uri between)

in_sync ()
{
  has_status "$(uri proxy)" '.progress.phase == "ready" and
    .remaining_bytes == 0 and .unflushed_bytes == 0'
}

# The filter has been told of new connections.
epoch_above ()
{
  has_status "$(uri proxy)" ".epoch > $1" && return
  is_running "${pids[migrator]}" || fail "the migrator ended"
  return 1
}

# close_all: those of the migrator and, for a pivot, of the proxy.
close_all ()
{
  local epoch

  wait_for in_sync
  epoch=$(status .epoch)
  between between close
  wait_for epoch_above "$epoch"
}

# With some set aside for reading back.
start_migrate --wait --verify "$(uri proxy)" "$D"
for round in 1 2; do
  echo "-- all are closed, $round"
  close_all
  # What the guest writes now goes over new ones.
  fill "$(uri proxy)" $((60 + 10 * round))
  wait_for in_sync
  same_content "$(uri proxy)" "$(uri destination)"
done

echo "-- whatever is idle for a moment is closed"
epoch=$(status .epoch)
between between idle=200
for n in 1 4 8; do
  wait_for epoch_above $((epoch + n))
done
between between idle=0

echo "-- the end is reached all the same"
start_guest guest "$(uri proxy)" --initial any --rate 1M
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri destination)"
end_bg proxy

echo "-- the sockets of new connections are the filter's, too (R7)"
rm -r "$tmp/proxy.dir"
start_proxy proxy memory $size
start_migrate --wait --finish=detach --connections=1 --reconnect=3s \
  "$(uri proxy)" "$D"
wait_for is_ready
close_all
ss -xp > "$tmp/sockets"
grep "pid=${pids[proxy]}," "$tmp/sockets" |
  grep -q "pid=${pids[migrator]}," ||
  fail "the filter has no socket of the migrator's: $(cat "$tmp/sockets")"

echo "-- no new one can be had"
between between refuse
between between close
expect_status 1 wait_bg migrator
# Whether it was idle just then, or a sample was being read.
grep -qE "(keeping .* in sync|reading).*again was tried for 3.* in vain" \
  "$tmp/migrator.log"
tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative'
must_have_status "$(uri proxy)" '.owner == "source" and .gate == "open"'
end_bg proxy
