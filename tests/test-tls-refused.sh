#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Row 19 of the fault table: certificates that are of another authority, expired,
# not valid yet or of another host; a client without a certificate, or with a
# stranger's; users and keys that the server does not know; plain text where TLS is
# required.  All are refused before any data, with a message that tells what to do.
# No key is in anything that is printed or written.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires jq
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
# shellcheck source=tests/tls.sh
source "$SRCDIR/tests/tls.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"

add_host host
address=${addresses[host]}
D="nbds://$address/?tls-certificates=$tmp"
P="$address/?tls-psk-file=$tmp"

# serve ARGUMENT...: the destination, with these arguments more.
serve ()
{
  [ -z "${pids[destination]:-}" ] || end_bg destination
  at_port host 10809 start_nbdkit destination "$@" --filter=log memory 1M \
    logfile="$tmp/requests"
}

# refused TEXT DESTINATION: it does not get as far as a connection.
refused ()
{
  : > "$tmp/requests"
  expect_status 1 migrate --finish=pivot "$S" "$2"
  grep -F "connecting to the destination $2" "$tmp/migrate.log" |
    grep -qF -- "$1" || fail "not said: $1, but $(cat "$tmp/migrate.log")"
  grep -q "the source $S .* authoritative" "$tmp/migrate.log"
  ! grep -q ' Connect ' "$tmp/requests" || fail "it was connected to"
  cat "$tmp/migrate.log" "$tmp/events" >> "$tmp/said"
}

not_required ()
{
  expect_status 2 migrate --require-tls "$@"
  grep -q -- '--require-tls: .* is without TLS' "$tmp/migrate.log" ||
    fail "not said: $(cat "$tmp/migrate.log")"
}

make_authority right
make_authority wrong
certify right server "ip_address = $address"
for name in expired future other clientless; do
  cp -r "$tmp/right" "$tmp/$name"
done
certify right client
certify wrong client
cp "$tmp/right/ca-cert.pem" "$tmp/wrong-ca-cert.pem"
certify expired server "ip_address = $address" \
  'activation_date = "2020-01-01 00:00:00"' \
  'expiration_date = "2020-01-02 00:00:00"'
certify future server "ip_address = $address" \
  'activation_date = "2090-01-01 00:00:00"' \
  'expiration_date = "2090-01-02 00:00:00"'
certify other server 'dns_name = elsewhere.example'
make_key keys user 3735928559
make_key bad user 3405691582
make_key bad stranger 3405691583
in_host host start_proxy proxy --tls=require --tls-psk="$tmp/keys.psk" memory 1M
S=$(psk_uri proxy user keys)

run_all ()
{
  local name

  echo "-- the server's certificate"
  serve --tls=require --tls-certificates="$tmp/right"
  refused 'certificate verification' "$D/wrong"
  refused 'tls-verify-peer is not true' "$D/right&tls-verify-peer=false"
  for name in expired future other; do
    serve --tls=require --tls-certificates="$tmp/$name"
    refused 'is not valid at this time, or is for another host' "$D/right"
  done

  echo "-- the client's"
  serve --tls=require --tls-certificates="$tmp/right" --tls-verify-peer
  refused 'may ask for a certificate of the client' "$D/clientless"
  mv "$tmp/wrong-ca-cert.pem" "$tmp/wrong/ca-cert.pem"
  refused 'may ask for a certificate of the client' "$D/wrong"

  echo "-- keys"
  refused 'does that server use certificates?' "nbds://user@$P/keys.psk"
  serve --tls=require --tls-psk="$tmp/keys.psk"
  refused 'may not know that user, or has another key' \
    "nbds://user@$P/bad.psk"
  refused 'may not know that user' "nbds://stranger@$P/bad.psk"
  refused 'must have a key in that file' "nbds://nobody@$P/bad.psk"
  refused 'nothere.psk: No such file' "nbds://user@$P/nothere.psk"

  echo "-- plain text"
  refused 'a URI with TLS begins with nbds://' "nbd://$address/"
  serve
  refused 'that server has no TLS' "$D/right"
  not_required "$S" "nbd://$address/"
  not_required "$(uri proxy)" "nbds://user@$P/keys.psk"
  not_required "$(uri proxy)" local:

  echo "-- what is right works"
  serve --tls=require --tls-psk="$tmp/keys.psk"
  must_migrate --require-tls "$S" "nbds://user@$P/keys.psk"
  "${in[@]}" "$nbdmigrate" status "$S" >> "$tmp/said"
  status_of "$S" . >> "$tmp/said"
}
in_host host run_all
end_bg proxy
end_bg destination

echo "-- a server that was lost comes back without TLS"
rm -r "$tmp/proxy.dir"
start_proxy proxy memory 1M
start_nbdkit destination --tls=require --tls-psk="$tmp/keys.psk" memory 1M
start_migrate --wait --finish=detach --reconnect=1s "$(uri proxy)" \
  "$(psk_uri destination user keys)"
wait_for is_ready
start_nbdkit plain --tls=off memory 1M
lose destination
mv "$tmp/plain.sock" "$tmp/destination.sock" # which takes no time
must_end 1 '--reconnect.*that server has no TLS'
end_bg plain

echo "-- so does one that is not waited for"
start_nbdkit destination --tls=require --tls-psk="$tmp/keys.psk" memory 1M
start_migrate --wait --finish=detach --restart --reconnect=0 "$(uri proxy)" \
  "$(psk_uri destination user keys)"
wait_for is_ready
crash_bg destination
start_nbdkit destination --tls=off memory 1M
must_end 1 'there was no new one: .*that server has no TLS'

echo "-- no key is told"
cat "$tmp"/*.log "$tmp/migrate.log" "$tmp/events" >> "$tmp/said"
for secret in deadbeef cafebabe cafebabf; do
  grep -q "$secret" "$tmp"/*.psk || fail "$secret is no key"
  ! grep -i "$secret" "$tmp/said" || fail "the key is in what was said"
  ! grep -ri "$secret" "$tmp/proxy.dir" || fail "the key is in the record"
done
