#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination with TLS: where the server's certificate would not be checked,
# neither nbdmigrate nor the proxy sends it a byte.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq openssl nbdinfo
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"

size=$((1024 * 1024))
add_host host
address=${addresses[host]}

# make_authority DIR: with a certificate of its own for this server.
make_authority ()
{
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

  mkdir "$tmp/$1"
  (
    cd "$tmp/$1"
    openssl req -x509 "${key[@]}" -keyout ca-key.pem -out ca-cert.pem \
      -subj "/CN=authority $1" -days 2
    openssl req "${key[@]}" -keyout server-key.pem -out request.pem \
      -subj "/CN=$address"
    openssl x509 -req -in request.pem -CA ca-cert.pem -CAkey ca-key.pem \
      -CAcreateserial -out server-cert.pem -days 2 \
      -extfile <(echo "subjectAltName=IP:$address")
  ) 2>> "$tmp/openssl.log"
}

# refused TEXT MIGRATE-ARGUMENT...
refused ()
{
  local text=$1

  shift
  expect_status 1 in_host host migrate "$@"
  grep -qF -- "$text" "$tmp/migrate.log" ||
    fail "not said: $text, but $(cat "$tmp/migrate.log")"
  grep -q 'authoritative\|nothing was done' "$tmp/migrate.log"
  ! grep -E ' (Write|Zero|Trim) ' "$tmp/requests" || fail "it was written to"
}

make_authority right
make_authority wrong
mkdir "$tmp/empty" "$tmp/secret"
cp "$tmp/right/ca-cert.pem" "$tmp/secret"
chmod 1777 "$tmp"
chmod 700 "$tmp/secret"
in_host host start_proxy proxy memory $size
truncate -s $size "$tmp/disk" # kept when its server is started again
at_port host 10809 start_nbdkit destination --tls=require \
  --tls-certificates="$tmp/right" --filter=log file "$tmp/disk" \
  logfile="$tmp/requests"
fill "$(uri proxy)" 50
D=nbds://$address:10809/

echo "-- a certificate that is not that authority's"
refused 'certificate verification' "$(uri proxy)" \
  "$D?tls-certificates=$tmp/wrong"

echo "-- an authority that is not there"
in_host host nbdinfo --size "$D?tls-certificates=$tmp/nowhere" ||
  echo "(libnbd refuses it by itself)"
refused "$tmp/nowhere/ca-cert.pem: No such file" "$(uri proxy)" \
  "$D?tls-certificates=$tmp/nowhere"
refused "$tmp/empty/ca-cert.pem: No such file" "$(uri proxy)" \
  "$D?tls-certificates=$tmp/empty"
[ -e /etc/pki/libnbd/ca-cert.pem ] ||
  refused 'name the directory' "$(uri proxy)" "$D"

echo "-- a socket, which has no host name"
start_nbdkit plain memory $size
refused 'X.509' --finish=detach "$(uri proxy)" \
  "nbds+unix:///?socket=$tmp/plain.sock&tls-certificates=$tmp/right"

echo "-- an authority that the proxy cannot read"
# The migrator runs as root and can.
end_bg proxy
rm -r "$tmp/proxy.dir"
in_host host start_proxy proxy -u nobody memory $size
fill "$(uri proxy)" 50
refused 'the proxy cannot go on there' "$(uri proxy)" \
  "$D?tls-certificates=$tmp/secret"
grep -qF "$tmp/secret/ca-cert.pem: Permission denied" "$tmp/migrate.log"
[ "$(status .owner)" = source ]

echo "-- one that both can read"
chmod 755 "$tmp/right" # whatever the umask was
chmod 644 "$tmp/right/ca-cert.pem"
in_host host must_migrate "$(uri proxy)" "$D?tls-certificates=$tmp/right"
[ "$(status .owner)" = destination ]
nbdcopy "$(uri proxy)" "$tmp/seen"
in_host host nbdcopy "$D?tls-certificates=$tmp/right" "$tmp/there"
cmp "$tmp/seen" "$tmp/there"

echo "-- the proxy loses it, and the authority is gone"
mv "$tmp/right/ca-cert.pem" "$tmp/right/gone.pem"
crash_bg destination
at_port host 10809 start_nbdkit destination --tls=require \
  --tls-certificates="$tmp/wrong" --filter=log memory $size \
  logfile="$tmp/imposter"
start_bg reader nbdcopy "$(uri proxy)" null:
wait_for has_status "$tmp/proxy.dir" '.relay.losses > 0 and (.relay.up | not)'
mv "$tmp/right/gone.pem" "$tmp/right/ca-cert.pem"
end_bg destination
! grep -q ' Connect ' "$tmp/imposter" || fail "the proxy took an imposter"
at_port host 10809 start_nbdkit destination --tls=require \
  --tls-certificates="$tmp/right" file "$tmp/disk"
wait_bg reader || fail "a read failed: $(cat "$tmp/reader.log")"
end_bg proxy
