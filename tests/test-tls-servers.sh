#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# qemu-nbd, with certificates and with keys, and nbd-server as destinations with
# TLS.  The proxy is started again after the pivot: it connects with TLS, and serves
# nobody where the server's certificate is another authority's by then.  With
# migrate-require-tls it connects to nothing without TLS.  No key is in what is
# printed, also with nbdkit -v, nor in the state files or in anybody's arguments.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires jq qemu-nbd qemu-img qemu-io nbd-server
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
# shellcheck source=tests/tls.sh
source "$SRCDIR/tests/tls.sh"

size=4M
add_host host
address=${addresses[host]}

make_authority right
certify right server "ip_address = $address"
certify right client
make_authority other
certify other server "ip_address = $address"
mkdir "$tmp/psk"
make_key keys migrator 3735928559
cp "$tmp/keys.psk" "$tmp/psk/keys.psk"

serve_proxy ()
{
  start_proxy proxy -v --tls=require --tls-psk="$tmp/keys.psk" memory $size \
    migrate-require-tls=true
}

# It takes a moment until it listens.
serve_qemu ()
{
  rm -f "$tmp/destination.pid"
  start_bg destination qemu-nbd -t -e 16 -f raw --tls-creds=tls0 \
    --pid-file="$tmp/destination.pid" "$@" "$tmp/disk"
  wait_for server_is_up destination
}

# serve_certified DIRECTORY
serve_certified ()
{
  serve_qemu -b "$address" -p 10810 \
    --object="tls-creds-x509,id=tls0,endpoint=server,verify-peer=on,dir=$1"
}

serve_keyed ()
{
  serve_qemu -k "$tmp/destination.sock" \
    --object="tls-creds-psk,id=tls0,endpoint=server,dir=$tmp/psk"
}

nbd_server_listens ()
{
  "${in[@]}" nbdinfo --size "$D" > "$tmp/nbdinfo.out" 2>&1
}

serve_oldest ()
{
  cat > "$tmp/nbd-server.conf" <<END
[generic]
    listenaddr = $address
    port = 10810
    force_tls = true
    certfile = $tmp/right/server-cert.pem
    keyfile = $tmp/right/server-key.pem
    cacertfile = $tmp/right/ca-cert.pem
[disk]
    exportname = $tmp/disk
    flush = true
    fua = true
    trim = true
END
  at_end stop_nbd_server
  "${in[@]}" nbd-server -C "$tmp/nbd-server.conf" -p "$tmp/nbd-server.pid" \
    2> "$tmp/nbd-server.log"
  wait_for nbd_server_listens
}

# What everybody can see of what runs here.
look_at_arguments ()
{
  local name

  for name in "${!pids[@]}"; do
    tr '\0' ' ' < "/proc/${pids[$name]}/cmdline" >> "$tmp/arguments"
  done
}

# moves DESTINATION: the disk goes there while a guest writes.
moves ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/guest.record"
  in_host host serve_proxy
  fill "$S" 50
  start_guest guest "$S" --initial "$pattern" --rate 4M
  in_host host start_migrate --wait --require-tls "$S" "$1"
  wait_for has_status "$S" '.progress.phase == "ready"'
  look_at_arguments
  "$nbdmigrate" finish "$S"
  wait_bg migrator || fail "the migrator ended with exit status $?"
  guest_goes_on guest
}

# The guest's requests went there, and do after a restart of the proxy.
restarts ()
{
  stop_guest guest
  end_bg proxy
  cat "$tmp/proxy.log" >> "$tmp/said"
  in_host host serve_proxy
  start_guest guest "$S" --resume --rate 4M
  guest_goes_on guest
  stop_guest guest
  verify_final guest "$S"
}

ends ()
{
  end_bg proxy
  cat "$tmp/proxy.log" >> "$tmp/said"
  [ -z "${pids[destination]:-}" ] || crash_bg destination
}

# A line of a private key.
key_line ()
{
  sed -n '/^-----BEGIN/{n;p;q}' "$tmp/right/$1-key.pem"
}

S=$(psk_uri proxy migrator keys)
D="nbds://$address:10810/?tls-certificates=$tmp/right"
truncate -s $size "$tmp/disk"

echo "-- qemu-nbd with certificates"
in_host host serve_certified "$tmp/right"
moves "$D"
restarts

echo "-- whose certificate is another authority's when the proxy comes back"
end_bg proxy
cat "$tmp/proxy.log" >> "$tmp/said"
crash_bg destination
in_host host serve_certified "$tmp/other"
in_host host serve_proxy
! nbdinfo --size "$S" > "$tmp/size.out" 2>&1 || fail "a guest is let in"
grep -q "the server's certificate is not by the authority" "$tmp/proxy.log" ||
  fail "it is not told what is wrong with the certificate"
crash_bg destination
in_host host serve_certified "$tmp/right"
wait_for nbdinfo --size "$S" > "$tmp/size.out" 2>&1
verify_final guest "$S"
ends

echo "-- qemu-nbd with keys"
truncate -s 0 "$tmp/disk"
truncate -s $size "$tmp/disk"
serve_keyed
moves "$(psk_uri destination migrator keys)"
restarts
ends

echo "-- nbd-server"
truncate -s 0 "$tmp/disk"
truncate -s $size "$tmp/disk"
D="nbds://$address:10810/disk?tls-certificates=$tmp/right"
in_host host serve_oldest
moves "$D"
restarts
ends

echo "-- without TLS"
rm -r "$tmp/proxy.dir"
in_host host serve_proxy
start_nbdkit plain memory $size
expect_status 1 in_host host migrate "$S" "$(uri plain)"
grep -q 'migrate-require-tls' "$tmp/migrate.log" ||
  fail "it does not say why: $(cat "$tmp/migrate.log")"
must_have_status "$S" '.owner == "source" and .place == null'
start_talker proxy
talk attach
talk begin "{\"destination\": \"$(uri plain)\"}"
talk mirror '{"enabled": true, "max_ms": 5000}'
wait_for has_status "$S" '.mirror.why // "" | test("migrate-require-tls")'
talk end
crash_bg talker
stop_talker

echo "-- no key is told"
cat "$tmp"/*.log "$tmp"/*.out "$tmp/events" >> "$tmp/said"
"$nbdmigrate" status "$S" >> "$tmp/said"
for secret in deadbeef $(key_line server) $(key_line client); do
  grep -qr -- "$secret" "$tmp"/*.psk "$tmp/right" || fail "$secret is no key"
  ! grep -riF -- "$secret" "$tmp/said" "$tmp/arguments" "$tmp/proxy.dir" ||
    fail "a key is told"
done
