#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the tests of faults stand on does what it says: the destination that is
# late on cue, the proxy between, the long way, cables between hosts.  No part
# of nbdmigrate takes part.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/between.sh
source "$SRCDIR/tests/between.sh"
requires nbdkit
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

# client NAME URI SCRIPT: in the background; "h" is connected.
client ()
{
  start_bg "$1" /usr/bin/python3 -c "
import os, sys, time, nbd
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
def refused (f, *args):
    try:
        f (*args)
    except nbd.Error:
        return True
    return False
def wait_until (file):
    while not os.path.exists ('$tmp/' + file):
        time.sleep (0.01)
def say (what):
    print (what, flush=True)
$3
say ('end')" "$2"
}

# well NAME: it has to end well.
well ()
{
  wait_bg "$1" || fail "the client $1 failed: $(cat "$tmp/$1.log")"
}

says ()
{
  grep -q "$2" "$tmp/$1.out"
}

# at_offset N COUNT: what the server's disk holds there.
at_offset ()
{
  "${in[@]}" /usr/bin/python3 -c '
import sys, nbd
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
print (h.pread (int (sys.argv[3]), int (sys.argv[2])).decode ())' \
    "$(uri server)" "$1" "$2"
}

expect_at ()
{
  local seen

  seen=$(at_offset "$1" "${#2}" | tr '\0' '0')
  [ "$seen" = "$2" ] || fail "at $1 there is $seen, not $2"
}

new_server ()
{
  [ -z "${pids[server]:-}" ] || end_bg server
  late_forget server
  rm -f "$tmp/server.img"
  truncate -s 1536M "$tmp/server.img"
  start_late server "$@"
}

echo "-- held until told; meanwhile others are served"
new_server
cue server 'write hold until=now at=1' 'zero late ms=30 least=1G'
client one "$(uri server)" "h.pwrite (b'late', 0)"
wait_for late_has server ' write 0 4 came$'
client two "$(uri server)" "h.pwrite (b'next', 4); h.zero (1 << 30, 8)"
well two
late_has server ' zero 8 1073741824 answered$' || fail "no late zero"
expect_at 0 0000next
go server now
well one
late_has server ' write 0 4 answered$' || fail "no late write"
expect_at 0 latenext

echo "-- it lands although its connection is gone; and is there before the answer"
rm "$tmp/server.cue/now"
cue server 'write hold until=now but=q count=1' \
  'write hold until=never lands=first but=q'
client one "$(uri server)" "h.pwrite (b'LATE', 0)"
wait_for late_has server ' write 0 4 came$' 2
client two "$(uri server)" "h.pwrite (b'here', 4)"
wait_for late_has server ' write 4 4 landed$'
crash_bg one
client three "$(uri server)" "h.pwrite (b'quick', 8)"
well three
expect_at 0 latehere
go server now
wait_for late_has server ' write 0 4 landed$' 2
expect_at 0 LATEhere
crash_bg two

echo "-- one that hangs does not keep the server from ending"
cue server 'read hang'
client one "$(uri server)" "h.pread (4, 0)"
wait_for late_has server ' read 0 4 came$'
end_bg server
wait_for late_has server ' read 0 4 gave-up$'
crash_bg one

echo "-- a cache that is lost"
new_server volatile=1
client one "$(uri server)" "
h.pwrite (b'flushed', 0); h.flush ()
h.pwrite (b'FORGOTTEN', 0); h.zero (4, 4096)
h.pwrite (b'fua', 8192, flags=nbd.CMD_FLAG_FUA)"
well one
expect_at 0 FORGOTTEN
crash_bg server
start_late server volatile=1
expect_at 0 flushed00
expect_at 8192 fua

echo "-- an old queue that the next server applies"
cue server 'write,zero queue'
client one "$(uri server)" "h.pwrite (b'old', 0)"
wait_for late_has server ' write 0 3 queued$'
client two "$(uri server)" "h.zero (2, 8192)"
wait_for late_has server ' zero 8192 2 queued$'
crash_bg server
crash_bg one
crash_bg two
cue server
start_late server volatile=1
expect_at 0 flushed
client one "$(uri server)" "h.pwrite (b'new', 0); h.flush ()"
well one
go server apply
wait_for late_has server ' zero 8192 2 applied$'
expect_at 0 old
expect_at 8192 00a

echo "-- failing on cue, and no multi-conn"
new_server multi-conn=0
cue server 'flush fail count=1'
client one "$(uri server)" "
assert not h.can_multi_conn ()
assert refused (h.flush)
h.flush ()"
well one

echo "-- a proxy between: cut, closed, refused, latency, two servers in turn"
start_nbdkit other memory 1M
start_between middle "" "unix:$tmp/server.sock" "unix:$tmp/other.sock"
client one "$(uri middle)" "assert h.get_size () == 1536 << 20"
well one
client one "$(uri middle)" "assert h.get_size () == 1 << 20"
well one
for what in cut close; do
  client one "$(uri middle)" "
say ('connected')
wait_until ('$what')
assert refused (h.pread, 4, 0)"
  wait_for says one connected
  between middle $what
  touch "$tmp/$what"
  well one
done
between middle refuse
client one "$(uri middle)" ""
! wait_bg one || fail "not refused"
between middle pass
between middle latency=5
client one "$(uri middle)" "h.pread (4, 0)"
well one
between middle latency=0
client one "$(uri middle)" "
say ('connected')
wait_until ('idle')
assert refused (h.pread, 4, 0)"
wait_for says one connected
between middle idle=50
wait_for says middle "^- idle"
touch "$tmp/idle"
well one
end_bg middle

# With several threads nbdkit (1.32.5) does not begin a request that it has read
# when another of them finds the end of the connection first.
new_server --threads=1

# A write is a header of 28 bytes and its data.
# kept_back TEXT COMMAND WORD: a write of TEXT is on its way to a proxy that has
# obeyed COMMAND, and has said WORD of it.
kept_back ()
{
  [ -z "${pids[middle]:-}" ] || end_bg middle
  start_between middle "" "unix:$tmp/server.sock"
  rm -f "$tmp/stalled"
  client one "$(uri middle)" "
say ('connected')
wait_until ('stalled')
h.pwrite (b'$1', 16)"
  wait_for says one connected
  between middle "$2"
  touch "$tmp/stalled"
  wait_for says middle "^- $3"
}

echo "-- a proxy between: stalled, then it goes on"
kept_back stalled stall "kept 35"
between middle pass
well one
expect_at 16 stalled

echo "-- a proxy between: what it keeps arrives after the client was cut off"
cue server 'write late ms=1'
kept_back kept stall "kept 32"
between middle cut
! wait_bg one || fail "the client was not cut off"
expect_at 16 stalled
between middle pass
wait_for late_has server ' write 16 4 landed$'
expect_at 16 keptled

echo "-- a proxy between: what it drops never arrives"
kept_back dropped drop dropped
between middle pass
! wait_bg one || fail "the client was not cut off"
expect_at 16 keptled
end_bg middle
end_bg server

echo "-- a long way: each byte takes its time, and many can be under way"
new_server
cue server 'read hold until=now'
start_long_way far 200 "unix:$tmp/server.sock"
client one "$(uri far)" "
wrote = b'far' * 2000000
start = time.monotonic ()
h.pwrite (wrote, 7)
assert time.monotonic () - start >= 0.2
bufs = [ nbd.Buffer (2000000) for n in range (3) ]
for cookie in [ h.aio_pread (bufs[n], 7 + n * 2000000) for n in range (3) ]:
    while not h.aio_command_completed (cookie):
        h.poll (-1)
assert b''.join (b.to_bytearray () for b in bufs) == wrote"
wait_for late_has server ' read .* came$' 3
go server now
well one
end_bg far
end_bg server

[ "$(id -u)" -eq 0 ] || exit 0
echo "-- cables"
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
add_host near
add_host far
at_port far 10809 start_nbdkit server memory 1M
in_host near client one "$(uri server)" "
h.pwrite (b'1', 0)
say ('connected')
wait_until ('pulled')
cookie = h.aio_pwrite (nbd.Buffer.from_bytearray (bytearray (b'2')), 0)
h.poll (50)
assert not h.aio_command_completed (cookie)
say ('nothing')
while not h.aio_command_completed (cookie):
    h.poll (-1)"
wait_for says one connected
pull far
touch "$tmp/pulled"
wait_for says one nothing
plug far
well one
in_host far expect_at 0 2
in_host near expect_at 0 2
end_bg server
