#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The network goes away for a while after a pivot, with a guest's writes on
# their way.  What is given up then must not be delivered when it is back (R17):
# nothing of it may stay in the send queue of a connection that nobody uses any
# more.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
requires nbdkit jq

add_host here
add_host there
truncate -s 4M "$tmp/source.img" "$tmp/destination.img"
at_port there 10809 start_late destination volatile=1
in_host here start_proxy proxy file "$tmp/source.img" \
  migrate-network-timeout=1s
in_host here must_migrate "$(uri proxy)" "$(uri destination)"
start_guest guest "$(uri proxy)" --depth 16 --cells 512 --kinds rwWzZf

is_lost ()
{
  [ "$(status .relay.losses)" -ge "$1" ]
}

# Sockets of the proxy's host that are closed, or being closed, and still hold
# something for the peer: "sl local remote state tx:rx ..." in hexadecimal.
left_over ()
{
  in_host here cat /proc/net/tcp |
    awk '$4 ~ /^0[4569B]$/ && $5 !~ /^00000000:/'
}

for i in 1 2; do
  echo "-- outage $i"
  pull there
  wait_for is_lost "$i"
  [ -z "$(left_over)" ] || fail "it would be delivered: $(left_over)"
  plug there
  guest_goes_on guest 100
done
stop_guest guest
[ "$(jq .errors "$tmp/guest.out")" -eq 0 ] || fail "requests failed"
end_bg proxy
in_host here verify_final guest "$(uri destination)"
# Nobody told it that the old connections are no more: nbdkit would wait for them.
crash_bg destination
