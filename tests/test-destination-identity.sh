#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Destinations that are not what their names say: two names of one disk, a
# source under another name, another disk for each client, a balancer.  Each is
# refused before anything is overwritten, with a message that names what was
# found, and what the destination held is there again.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq nbd-server qemu-nbd nbdsh

size=$((4 * 1024 * 1024))

# make_disk NAME: full of its own.
make_disk ()
{
  openssl enc -aes-128-ctr -pass "pass:$seed $1" -nosalt < /dev/zero \
    2> /dev/null | head -c $size > "$tmp/$1.disk" || :
}

start_source ()
{
  make_disk "$1"
  start_proxy "$1" file "$tmp/$1.disk"
}

# refused TEXT OPTION... URI...: for each way to end it.
refused ()
{
  local text=$1 finish f

  shift
  for finish in pivot handover detach; do
    sha256sum "$tmp"/*.disk > "$tmp/before.sums"
    expect_status 1 migrate --finish=$finish "$@"
    sed 's/^/   /' "$tmp/migrate.log"
    grep -qF -- "$text" "$tmp/migrate.log" || fail "this is not said: $text"
    tail -n 1 "$tmp/migrate.log" | grep -q 'source .* authoritative' ||
      fail "it is not said who is authoritative"
    [ "$(event 'map(select(.event == "started")) | length')" -eq 0 ]
    sha256sum -c --quiet "$tmp/before.sums" || fail "a disk has changed"
  done
}

same='are the same disk'
different='reach different disks'

start_source a
start_source b
A=$(uri a) B=$(uri b)
make_disk one
start_nbdkit one file "$tmp/one.disk"

echo "-- a server that ignores export names"
refused "$same" "$A" "nbd+unix:///a?socket=$tmp/one.sock" \
  "$B" "nbd+unix:///b?socket=$tmp/one.sock"
end_bg one

echo "-- one file under two names, at two servers"
ln "$tmp/one.disk" "$tmp/link"
start_nbdkit one file "$tmp/one.disk"
start_qemu_nbd two -e 16 -f raw "$tmp/link"
refused "$same" "$A" "$(uri one)" "$B" "$(uri two)"
# One that has nothing but zeroes makes it no harder.
: > "$tmp/one.disk"
truncate -s $size "$tmp/one.disk"
refused "$same" "$A" "$(uri one)" "$B" "$(uri two)"
end_bg two

echo "-- one server under two addresses"
for try in 1 2 3 4 5 6 7 8; do
  port=$((20000 + (seed + try * 977) % 10000))
  rm -f "$tmp/tcp.pid"
  start_bg tcp nbdkit -f -p $port -P "$tmp/tcp.pid" file "$tmp/one.disk"
  there_or_gone ()
  {
    is_file "$tmp/tcp.pid" || has_ended "${pids[tcp]}"
  }
  wait_for there_or_gone
  ! is_file "$tmp/tcp.pid" || break
  wait_bg tcp || :
done
refused "$same" "$A" "nbd://127.0.0.1:$port/" "$B" "nbd://127.0.0.2:$port/"
end_bg tcp
end_bg one

echo "-- a disk to itself, and to the source of another"
start_nbdkit alias file "$tmp/a.disk"
start_nbdkit other file "$tmp/b.disk"
start_nbdkit third memory $size
refused "$same" "$A" "$(uri alias)"
refused "$same" "$A" "$(uri other)" "$B" "$(uri third)"
end_bg alias
end_bg other
end_bg third

echo "-- a disk to itself, while a guest writes everywhere"
# Each round is a chance to undo one of the guest's writes.  The destination is
# slow to read, so that what is read of both sides without a pause differs.
# (Reads pass a gate that is shut, and may find the mark.)
small=$((64 * 1024))
truncate -s $small "$tmp/live"
start_proxy live file "$tmp/live"
start_nbdkit slow --filter=delay file "$tmp/live" rdelay=20ms
start_guest guest "$(uri live)" --rate 20M --kinds wWf
for _ in 1 2 3 4 5 6; do
  expect_status 1 migrate --max-pause=5s "$(uri live)" "$(uri slow)"
  sed 's/^/   /' "$tmp/migrate.log"
  grep -qF -- "$same" "$tmp/migrate.log" || fail "this is not said: $same"
done
must_have_status "$(uri live)" '.gate == "open" and .gates_expired == 0'
stop_guest guest
verify_final guest "$(uri live)"
end_bg slow
end_bg live

echo "-- a disk of its own for each client: nbdkit tmpdisk"
start_nbdkit each tmpdisk $size
refused "$different" "$A" "$(uri each)"
end_bg each

# can_read_back: whether this client gets from the server what it has written there.
can_read_back ()
{
  PATH=/usr/bin:$PATH nbdsh -u "$nbd_server_uri" -c '
h.pwrite (bytes (4096), 0)
h.pread (4096, 0)' 2> "$tmp/nbdsh.log"
}

for line in 'temporary = true' 'copyonwrite = true'; do
  echo "-- nbd-server, $line"
  : > "$tmp/nbd.disk"
  truncate -s $size "$tmp/nbd.disk"
  start_nbd_server "$tmp/nbd.disk" "$line" "filesize = $size"
  nbdinfo "$nbd_server_uri"
  # nbd-server 3.27.1 with copyonwrite cannot answer that with structured replies
  # (findings/nbd-server-copyonwrite-offset.sh), so it is refused for that.
  if can_read_back; then
    refused "$different" "$A" "$nbd_server_uri"
  elif grep -q 'out of bounds' "$tmp/nbdsh.log"; then
    refused 'structured reply is out of bounds' "$A" "$nbd_server_uri"
  else
    fail "$(cat "$tmp/nbdsh.log")"
  fi
  stop_nbd_server
done

echo "-- a balancer over two servers"
for name in left right; do
  make_disk $name
  start_nbdkit $name file "$tmp/$name.disk"
done
start_bg balancer "$BUILD/tests/tcp-relay" "$tmp/balancer.fifo" \
  "unix:$tmp/balancer.sock" "unix:$tmp/left.sock" "unix:$tmp/right.sock"
is_listening ()
{
  [ -S "$tmp/balancer.sock" ]
}
wait_for is_listening
refused "$different" "$A" "$(uri balancer)"
refused "$different" --connections=1 "$A" "$(uri balancer)"
end_bg balancer
end_bg right

echo "-- and those that are what they say"
must_migrate --finish=detach "$A" "$(uri left)"
same_content "$A" "$(uri left)"

# What these servers are given is gone when they end, and until then nothing
# tells.  But what comes back after a pivot is not taken for the disk.

echo "-- an overlay that is there as long as its server: cow"
: > "$tmp/overlaid"
truncate -s $size "$tmp/overlaid"
start_nbdkit overlay --filter=cow file "$tmp/overlaid"
must_migrate --finish=detach "$A" "$(uri overlay)"
same_content "$A" "$(uri overlay)"
end_bg overlay

echo "-- the same: qemu-nbd --snapshot"
start_qemu_nbd overlay --snapshot -f raw -e 16 "$tmp/overlaid"
must_migrate "$A" "$(uri overlay)"
same_content "$A" "$(uri overlay)"
crash_bg overlay
start_qemu_nbd overlay --snapshot -f raw -e 16 "$tmp/overlaid"
wait_for grep -q 'does not hold what was flushed' "$tmp/a.log"
must_have_status "$A" '.relay.up | not'
