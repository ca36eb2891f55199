#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# SIGTERM ends the proxy in every state: idle, while a disk is copied, with
# writes held at the gate, with control clients that do nothing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

# A disk behind a proxy with a guest; one request per connection, because a
# client that leaves with several unanswered can abort this nbdkit.
start_all ()
{
  rm -rf "$tmp"/*.record "$tmp"/proxy.dir
  start_proxy proxy memory 16M
  start_guest guest "$(uri proxy)" --expect-shutdown \
    --expect-disconnect --depth 4 --connections 4
}

# The end of a proxy is checked by end_bg.
stop_all ()
{
  end_bg proxy
  wait_bg guest || fail "the guest ended with exit status $?"
  [ ! -S "$tmp/proxy.dir/control" ] || fail "the control socket is left behind"
}

nothing_gets_through ()
{
  has_status "$(uri proxy)" '.gate == "closed" and .in_flight_requests == 0'
}

echo "-- idle"
start_all
stop_all

echo "-- with idle control clients"
start_all
start_bg idle "$BUILD/tests/control" "$tmp/proxy.dir/control" --idle 20
wait_for is_file "$tmp/idle.out"
stop_all
end_bg idle

echo "-- while a disk is copied"
start_all
start_nbdkit destination memory 16M
start_migrate --finish=detach --rate=1M "$(uri proxy)" "$(uri destination)"
wait_for has_event progress
stop_all
expect_status 1 wait_bg migrator
end_bg destination

echo "-- with writes held at the gate"
start_all
start_talker proxy
talk attach
talk begin '{"destination": "nbd://localhost/"}'
talk hold '{"deadline_ms": 5000}'
wait_for nothing_gets_through
stop_all
stop_talker
