#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# After a pivot the destination is killed and comes back: the guest's requests
# wait and go on, and what it was told is done is there, although the
# destination had not flushed it and lost it (tests/plugins/lossy.c, and
# qemu-nbd with what it caches of a qcow2 image).  If it stays away longer than
# migrate-reconnect they fail, and work again when it is back.  No flush lies.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd qemu-img
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

size=$((4 * 1024 * 1024 + 512))
lossy=$BUILD/tests/nbdkit-lossy-plugin.so

# lost_times N: and it has noticed.
lost_times ()
{
  [ "$(status .relay.losses)" -ge "$1" ]
}

is_up ()
{
  has_status "$(uri proxy)" .relay.up
}

# connection_is REGEX: in the status for people.
connection_is ()
{
  "$nbdmigrate" status "$(uri proxy)" > "$tmp/status"
  grep -qx "connection  *$1" "$tmp/status" ||
    fail "not so: $1 in $(grep '^connection' "$tmp/status")"
}

start_lossy ()
{
  start_nbdkit destination "$lossy" file="$tmp/destination"
}

start_qcow2 ()
{
  start_qemu_nbd destination -e 16 -f qcow2 --cache=writeback \
    --discard=unmap "$tmp/destination"
}

# begin START-DESTINATION [FILTER-PARAMETER...]: up to the pivot.
begin ()
{
  local start=$1

  shift
  rm -rf "$tmp/proxy.dir" "$tmp"/*.record "$tmp/source" "$tmp/destination"
  truncate -s $size "$tmp/source"
  if [ "$start" = start_qcow2 ]; then
    qemu-img create -q -f qcow2 "$tmp/destination" $size
  else
    truncate -s $size "$tmp/destination"
  fi
  start_proxy proxy file "$tmp/source" "$@"
  $start
  must_migrate "$(uri proxy)" "$(uri destination)"
}

# Three times away while the guest is at work.
crash_it ()
{
  local start=$1 i kinds=()

  echo "-- killed and started again: $start"
  begin "$start"
  [ "$start" != start_qcow2 ] || kinds=("${kinds_for_qcow2[@]}")
  start_guest guest "$(uri proxy)" --depth 16 "${kinds[@]}"
  for i in 1 2 3; do
    guest_goes_on guest 100
    crash_bg destination
    wait_for lost_times $i
    must_have_status "$(uri proxy)" \
      '.relay.up == false and .relay.failing == false'
    connection_is "connecting again, guest requests wait; lost $i times*"
    $start
    wait_for is_up
    guest_goes_on guest 100
  done
  stop_guest guest
  echo "replayed $(status .relay.replayed_writes) writes"
  verify_final guest "$(uri proxy)"
  # The guest flushed when it stopped, so nothing may be lost now.
  crash_bg destination
  $start
  verify_final guest "$(uri destination)"
  end_bg proxy
  end_bg destination
}

crash_it start_lossy
crash_it start_qcow2

echo "-- away for too long"
begin start_lossy migrate-reconnect=1s
cat > "$tmp/guest.py" <<'END'
import errno, os, sys
import nbd

h = nbd.NBD ()
h.connect_uri (sys.argv[1])
go, asked = sys.argv[2], sys.argv[3]

def wait_for (name):
    open (asked, "w").write (name)
    with open (go) as f:        # a fifo: until the test answers
        f.read ()

def error_of (f, *args):
    try:
        f (*args)
    except nbd.Error as e:
        return e.errnum
    return 0

flushed, unflushed, refused = b"F" * 4096, b"U" * 4096, b"R" * 4096
h.pwrite (flushed, 0)
h.flush ()
h.pwrite (unflushed, 8192)      # told that it is done
wait_for ("kill")
assert error_of (h.pwrite, refused, 16384) == errno.EIO
assert error_of (h.pread, 4096, 0) == errno.EIO
wait_for ("start")
assert h.pread (4096, 0) == flushed
assert h.pread (4096, 8192) == unflushed
error = error_of (h.flush)
print ("the flush:", os.strerror (error))
if error == 0:
    wait_for ("crash")
    h.pwrite (refused, 16384)
    assert h.pread (4096, 8192) == unflushed
    h.flush ()
END
mkfifo "$tmp/fifo"
asked_for ()
{
  [ "$(cat "$tmp/asked" 2> /dev/null)" = "$1" ] && return
  is_running "${pids[guest]}" || fail "the guest ended early"
  return 1
}
start_bg guest /usr/bin/python3 "$tmp/guest.py" "$(uri proxy)" "$tmp/fifo" \
  "$tmp/asked"
wait_for asked_for kill
must_have_status "$(uri proxy)" '.relay.failing == false'
crash_bg destination
: > "$tmp/fifo"
wait_for asked_for start
must_have_status "$(uri proxy)" '.relay.up == false and .relay.failing'
connection_is 'connecting again, guest requests fail until then; lost 1 time'
start_nbdkit other memory $size
expect_status 1 migrate "$(uri proxy)" "$(uri other)"
grep -q "$(uri destination), where the disk .* is away" "$tmp/migrate.log" ||
  fail "it is not said that it is away: $(cat "$tmp/migrate.log")"
tail -n 1 "$tmp/migrate.log" |
  grep -qF "(the disk is at $(uri destination)) is intact"
end_bg other
start_lossy
wait_for is_up
must_have_status "$(uri proxy)" '.relay.failing == false'
connection_is 'up, lost 1 time'
: > "$tmp/fifo"
wait_for asked_for crash
crash_bg destination
wait_for lost_times 2
start_lossy
wait_for is_up
: > "$tmp/fifo"
wait_bg guest || fail "the guest failed"
cat "$tmp/guest.out"
end_bg proxy
end_bg destination

# What one proxy has acknowledged and nobody has flushed the next one does not
# know, but its guests see it: so it is flushed before they do.
sees ()
{
  /usr/bin/python3 -c 'import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
assert h.pread (4096, 8192) == b"U" * 4096' "$(uri proxy)"
}

# killed_both: first the proxy, and when a guest has looked at what it left, the
# destination.
killed_both ()
{
  begin start_lossy
  /usr/bin/python3 -c 'import nbd, os, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b"U" * 4096, 8192)
os.kill (int (sys.argv[2]), 9)' "$(uri proxy)" "${pids[proxy]}"
  crash_bg proxy
  "$@" start_proxy proxy file "$tmp/source" migrate-reconnect=1h
  sees
  crash_bg destination
  start_lossy
  sees || fail "a guest has seen it, and it is gone"
  end_bg proxy
  end_bg destination
}

# in_a_hurry COMMAND...: with a clock by which that is a long time.
in_a_hurry ()
{
  : > "$tmp/hurry"
  HURRY=100 HURRY_ARM=$tmp/hurry \
    LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/hurry-preload.so "$@"
}

echo "-- the proxy is killed, and after that the destination"
killed_both
echo "-- the same, with nobody there as long as the first one's writes may land"
killed_both in_a_hurry

echo "-- killed between the flush and the record of the new owner"
rm -rf "$tmp/proxy.dir" "$tmp"/*.record "$tmp/source" "$tmp/destination"
truncate -s $size "$tmp/source" "$tmp/destination"
start_lossy
LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy.dir CRASH_AT=1 \
  CRASH_ARM=$tmp/arm CRASH_GO=$tmp/go CRASH_LOG=$tmp/steps \
  start_proxy proxy file "$tmp/source"
start_guest guest "$(uri proxy)" --rate 4M
start_migrate --wait --max-pause=5s "$(uri proxy)" "$(uri destination)"
wait_for is_ready
touch "$tmp/arm"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_for is_file "$tmp/steps"
crash_bg destination
touch "$tmp/go"
wait_bg migrator || fail "the migrator ended with exit status $?"
start_lossy
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri destination)"
end_bg proxy
