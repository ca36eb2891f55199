# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# Authorities, certificates and keys for TLS.  Sourced after tests/functions.sh;
# skips the test without certtool, or if nbdkit has no TLS.
#
#   make_authority right
#   certify right server "ip_address = 10.77.0.1"
#   certify right client
#   make_key keys user 77

requires nbdkit certtool
nbdkit --dump-config | grep -q '^tls=yes' || skip "nbdkit without TLS"

# new_key FILE
new_key ()
{
  certtool --generate-privkey --key-type=ecdsa --curve=secp256r1 \
    --outfile "$1" 2>> "$tmp/certtool.out"
}

# make_authority NAME: its certificate and key in the directory $tmp/NAME.
make_authority ()
{
  local dir=$tmp/$1

  mkdir -p "$dir"
  new_key "$dir/ca-key.pem"
  printf '%s\n' "cn = authority $1" ca cert_signing_key expiration_days=2 \
    > "$dir/ca.template"
  certtool --generate-self-signed --load-privkey="$dir/ca-key.pem" \
    --template="$dir/ca.template" --outfile="$dir/ca-cert.pem" \
    2>> "$tmp/certtool.out"
}

# certify NAME server|client [LINE...]: a certificate by that authority, in its
# directory, with these lines more in certtool's template (the last of them must
# be a date of expiry if there is one of activation).
certify ()
{
  local dir=$tmp/$1 of=$2

  shift 2
  [ -e "$dir/$of-key.pem" ] || new_key "$dir/$of-key.pem"
  printf '%s\n' "cn = the $of" "tls_www_$of" signing_key "$@" \
    > "$dir/$of.template"
  [[ "$*" == *expiration_date* ]] ||
    echo expiration_days=2 >> "$dir/$of.template"
  certtool --generate-certificate --load-privkey="$dir/$of-key.pem" \
    --load-ca-certificate="$dir/ca-cert.pem" \
    --load-ca-privkey="$dir/ca-key.pem" --template="$dir/$of.template" \
    --outfile="$dir/$of-cert.pem" 2>> "$tmp/certtool.out"
}

# make_key NAME USER NUMBER: a pre-shared key, in the file $tmp/NAME.psk.
make_key ()
{
  printf '%s:%064x\n' "$2" "$3" >> "$tmp/$1.psk"
  chmod 600 "$tmp/$1.psk"
}

# psk_uri NAME USER KEYS: of a server's Unix socket.
psk_uri ()
{
  echo "nbds+unix://$2@/?socket=$tmp/$1.sock&tls-psk-file=$tmp/$3.psk"
}

# Every TLS session of these servers that the disk was opened in was ended by both
# sides.  In the middle of a negotiation (which nbdkit logs as of memory[3], not of
# memory.3) libnbd has no goodbye.
sessions_ended_well ()
{
  local name

  for name in "$@"; do
    ! grep -E '\.[0-9]+: error: .*(gnutls|non-properly|TLS)' "$tmp/$name.log" ||
      fail "$name was left without a word"
  done
}
