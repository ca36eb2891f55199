#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A URI whose connections do not all reach the same disk, as behind a balancer
# or while a server is being replaced: refused before anything is written to any
# of the disks, however many connections were asked for, with a message that
# tells what differs.  (A server that merely admits fewer connections than we
# would like is in test-one-client.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq python3

size=$((1024 * 1024))

# balancer.py SOCKET FIRST REST: passes its first two connections on to one
# server and all others to the other.
cat > "$tmp/balancer.py" <<'END'
import os, socket, sys, threading

def carry(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for s in a, b:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1] + ".new")
listener.listen(32)
os.rename(sys.argv[1] + ".new", sys.argv[1])
n = 0
while True:
    client = listener.accept()[0]
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[2 if n < 2 else 3])
    n += 1
    for pair in (client, server), (server, client):
        threading.Thread(target=carry, args=pair, daemon=True).start()
END

is_listening ()
{
  [ -S "$tmp/balancer.sock" ]
}

# start_balancer FIRST REST
start_balancer ()
{
  rm -f "$tmp/balancer.sock"
  start_bg balancer python3 "$tmp/balancer.py" "$tmp/balancer.sock" \
    "$tmp/$1.sock" "$tmp/$2.sock"
  wait_for is_listening
}

# refused SERVER SERVER SOURCE DESTINATION TEXT...: with a balancer between
# these servers, and any number of connections above two.
refused ()
{
  local first=$1 rest=$2 source=$3 destination=$4 connections text

  shift 4
  for connections in '' --connections=3 --connections=16; do
    echo "-- $* ${connections:-by default}"
    start_balancer "$first" "$rest"
    # shellcheck disable=SC2086 # none, or one word
    expect_status 1 migrate --finish=detach $connections \
      "$source" "$destination"
    sed 's/^/   /' "$tmp/migrate.log"
    for text in "$(uri balancer)" 'reach different disks' "$@"; do
      grep -qF -- "$text" "$tmp/migrate.log" || fail "this is not said: $text"
    done
    tail -n 1 "$tmp/migrate.log" | grep -q 'source .* authoritative' ||
      fail "it is not said who is authoritative"
    ! grep -E ' (Write|Zero|Trim) ' "$tmp"/*.requests ||
      fail "something was written"
    end_bg balancer
  done
}

# start_logged NAME ARGUMENT...
start_logged ()
{
  start_nbdkit "$1" --filter=log "${@:2}" logfile="$tmp/$1.requests"
}

start_proxy proxy memory $size
start_proxy twin memory $size
fill "$(uri proxy)" 100 > "$tmp/fill.out"
fill "$(uri twin)" 100 > "$tmp/fill.out"
start_logged plain memory $size
start_logged large memory $((2 * size))
start_logged small memory $((size / 2))
start_logged readonly -r memory $size
start_logged blocks --filter=blocksize-policy memory $size \
  blocksize-minimum=512 blocksize-error-policy=error

S=$(uri proxy) D=$(uri plain) B=$(uri balancer)
for other in large small; do
  refused plain $other "$S" "$B" destination $size \
    "$(nbdinfo --size "$(uri $other)")"
done
refused plain readonly "$S" "$B" destination read-only
refused plain blocks "$S" "$B" destination 'minimum block: 1 and 512'
refused proxy twin "$B" "$D" source \
  "id: $(status_of "$S" .id)"

echo "-- two connections that reach the same disk"
start_balancer plain large
must_migrate --finish=detach --connections=1 "$S" "$B" # and one more that reads
same_content "$S" "$D"
