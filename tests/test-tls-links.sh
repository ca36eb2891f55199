#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# TLS on all links: the guest's, nbdmigrate's to the proxy and to the destination,
# and the proxy's own to the destination after the pivot; with certificates of
# both sides, and with pre-shared keys.  The disk goes to a destination, on to
# another one and back.  No server is left without a goodbye: nbdkit takes a TLS
# session that just ends for an attack, and logs an error.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires jq
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
# shellcheck source=tests/tls.sh
source "$SRCDIR/tests/tls.sh"

size=$((4 * 1024 * 1024 + 512))
add_host host
address=${addresses[host]}

# move DESTINATION [OPTION...]: while the guest goes on, from then on there.
move ()
{
  must_migrate "${@:2}" "$S" "$1"
  must_have_status "$S" "(.place // \"local:\") == \"$1\""
  guest_goes_on guest 10
}

# go_round [BACK]: from the source $S to $A, on to $B, and back.
go_round ()
{
  local back=${1:-}

  fill "$S" 50
  start_guest guest "$S" --initial "$pattern" --rate 4M
  move "$A"
  move "$B"
  [ -z "$back" ] || move "$back"
  stop_guest guest
  verify_final guest "$S"
  end_bg proxy
  end_bg a
  end_bg b
  sessions_ended_well proxy a b
}

echo "-- certificates of both sides, over TCP"
make_authority right
certify right server "ip_address = $address"
certify right client
with=(--tls=require --tls-certificates="$tmp/right" --tls-verify-peer)
at_port host 10810 start_nbdkit a "${with[@]}" memory $size
at_port host 10811 start_nbdkit b "${with[@]}" memory $size
at_port host 10809 start_proxy proxy "${with[@]}" memory $size
S="nbds://$address/?tls-certificates=$tmp/right"
A="nbds://$address:10810/?tls-certificates=$tmp/right"
B="nbds://$address:10811/?tls-certificates=$tmp/right"
in_host host go_round # not back: that way is for Unix sockets

echo "-- keys, over Unix sockets"
rm -r "$tmp/proxy.dir" "$tmp/guest.record"
make_key keys migrator 77
make_key keys guest 78
with=(--tls=require --tls-psk="$tmp/keys.psk")
start_nbdkit a "${with[@]}" memory $size
start_nbdkit b "${with[@]}" memory $size
start_proxy proxy "${with[@]}" memory $size
S=$(psk_uri proxy migrator keys)
A=$(psk_uri a migrator keys)
B=$(psk_uri b migrator keys)
go_round local:

echo "-- the mirror's own connections"
rm -r "$tmp/proxy.dir"
start_nbdkit a "${with[@]}" memory $size
start_proxy proxy "${with[@]}" memory $size
fill "$S" 1
start_talker proxy
talk attach
talk begin "{\"destination\": \"$A\"}"
talk mirror '{"enabled": true, "max_ms": 5000}'
wait_for has_status "$S" '.mirror.state == "on"'
talk end
wait_for has_status "$S" '.mirror.state == "off"'
crash_bg talker
stop_talker
end_bg proxy
end_bg a
sessions_ended_well a
