#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# The cable of the destination is pulled while it is copied to.  Plugged in again
# soon, nothing was lost: what was on its way arrives.  Where its host was started
# again meanwhile, what arrives there finds nobody, and that is a loss.  LONG=1: it
# is pulled for longer than a connection lives, half a minute, and dialled in vain
# until it is plugged in.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq ss

add_host a
add_host b

start_destination ()
{
  at_port b 10809 start_nbdkit destination file "$tmp/disk"
}

copies ()
{
  has_status "$(uri proxy)" '.unflushed_bytes > 0'
}

# Something is on its way to it and does not arrive.
has_queue ()
{
  in_host a ss -Htn state established 'dport = :10809' |
    awk '$2 > 1 { n++ } END { exit n == 0 }'
}

flows_again ()
{
  has_status "$(uri proxy)" ".progress.copied_bytes > $before"
}

truncate -s 32M "$tmp/disk"
start_destination
in_host a start_proxy proxy memory 32M
fill "$(uri proxy)" 100
GUEST_ACKS=5 start_guest guest "$(uri proxy)" --initial "$pattern" --rate 100K
in_host a start_migrate --wait --finish=detach --rate=4M "$(uri proxy)" \
  "$(uri destination)"
must_live=(migrator)
wait_for copies

echo "-- for a moment"
pull b
wait_for has_queue
before=$(status .progress.copied_bytes)
plug b
wait_for flows_again
! grep -q '"event":"lost"' "$tmp/events" || fail "slow is taken for lost"

echo "-- and its host is started again"
pull b
wait_for has_queue
crash_bg destination
start_destination
plug b
wait_for has_events lost 1
wait_for has_events reconnected 1

if [ -n "${LONG:-}" ]; then
  echo "-- for long"
  wait_for copies
  pull b
  WAIT_SECONDS=60 wait_for has_events lost 2
  wait_for has_status "$(uri proxy)" '.progress.reconnecting.attempts > 1'
  guest_goes_on guest
  plug b
  wait_for has_events reconnected 2
fi
# What was on its way is read back after twice the time that it was: too long here.
before=$(status .progress.copied_bytes)
wait_for flows_again
must_live=()
"$nbdmigrate" cancel "$(uri proxy)"
must_end 3 'cancelled by request'
guest_goes_on guest 5
stop_guest guest
# It may not have heard of all resets.
crash_bg destination
