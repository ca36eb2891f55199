#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A proxy that ends tells the next one whether something that was sent may still
# land (R17): by its lock file, as one that is killed does.  Then nothing is copied
# before the grace is over, however the last session ended; and if not, no guest
# waits.  And a destination at a new address, which may be an earlier one, is met
# after the grace only.  The grace follows the delays that were seen at the server
# in question, by whoever has seen them.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit nbdinfo jq qemu-io qemu-nbd
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

dir=$tmp/proxy.dir
at_end 'go slow now'

write_has ()
{
  late_has slow "write 0 .* $1\$"
}

session_is_over ()
{
  [ "$(status .session)" = false ]
}

# start_disks WAY...: a disk with a write to "slow" that is not answered, by an
# nbdmigrate that was ended; that disk can be reached by these servers.
start_disks ()
{
  local way

  rm -rf "$dir" "$tmp/slow.img"
  truncate -s 8M "$tmp/slow.img"
  late_forget slow
  start_it
  start_late slow
  for way; do
    start_late_qemu_nbd "$way" slow
  done
  cue slow 'write hold until=now at=0 least=8192'
  qemu-io -f raw -c 'write -P 0x53 0 64k' "$(uri proxy)" > "$tmp/qemu-io.out"
  start_migrate "$(uri proxy)" "$(uri "${1:-slow}")"
  wait_for write_has came
}

# stop_disks WAY...
stop_disks ()
{
  local name

  go slow now
  for name in proxy "$@" slow; do
    end_bg "$name"
  done
}

lock_is_empty ()
{
  [ -f "$dir/lock" ] && [ ! -s "$dir/lock" ]
}

# says TEXT: the proxy of now does.
says ()
{
  grep -qF -- "$1" "$tmp/proxy.log"
}

start_it ()
{
  hurried 5 start_proxy proxy memory 8M -v
}

restart ()
{
  end_bg proxy
  ! lock_is_empty || fail "nothing is left, it says"
  start_it
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
  says 'no session copies for' || fail "nobody waits for the grace"
}

echo "-- cancelled"
start_disks
crash_bg migrator
wait_for session_is_over
"$nbdmigrate" cancel "$(uri proxy)" 2> "$tmp/cancel.log"
must_have_status "$(uri proxy)" '.last_end == "aborted" and .quiet_ms == 0'
restart
stop_disks

echo "-- another migration has come between"
start_disks
crash_bg migrator
wait_for session_is_over
start_nbdkit other memory 8M
must_migrate "$(uri proxy)" "$(uri other)"
restart
stop_disks other

echo "-- the same server at another address"
start_disks one two
crash_bg migrator
crash_bg one
wait_for session_is_over
cue slow
must_migrate "$(uri proxy)" "$(uri two)"
says 'no session copies for' || fail "nobody waits for the grace"
stop_disks two

echo "-- killed after another one was copied to, whose dirty map tells nothing of it"
start_disks
crash_bg migrator
wait_for session_is_over
touch "$tmp/hurry"
wait_for has_status "$(uri proxy)" '.unanswered_ms > 11000'
go slow now
wait_for has_status "$(uri proxy)" '.unanswered_ms == 0'
start_nbdkit other memory 8M
must_migrate --finish=detach "$(uri proxy)" "$(uri other)"
wait_for has_status "$(uri proxy)" '.dirty_map.marked_bytes == 0'
crash_bg proxy
start_it
nbdinfo --size "$(uri proxy)" > "$tmp/size"
must_have_status "$(uri proxy)" '.tracking and .dirty_bytes == 0 and .quiet_ms > 0'
rm "$tmp/hurry"
start_migrate "$(uri proxy)" "$(uri slow)"
wait_for has_status "$(uri proxy)" .session
must_have_status "$(uri proxy)" \
  '.quarantined_bytes == .disk_bytes and .quarantine_ms > 15000'
crash_bg migrator
stop_disks other

start_pivoted ()
{
  rm -rf "$dir"
  start_nbdkit there memory 8M
  start_it
  must_migrate "$(uri proxy)" "$(uri there)"
}

first_client ()
{
  start_it
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
}

must_wait ()
{
  says 'before may still land' || fail "nobody waits"
}

write_some ()
{
  qemu-io -f raw -c 'write -P 0x53 0 64k' "$(uri proxy)" > "$tmp/qemu-io.out"
}

echo "-- nobody waits after a clean stop"
start_pivoted
write_some
end_bg proxy
lock_is_empty
first_client
! says 'before may still land' || fail "guests wait for nothing"
must_have_status "$dir" '.relay.up and .relay.unknown == [] and .quiet_ms == 0'

echo "-- but where a guest's write was not answered: the kept file says so"
end_bg proxy
end_bg there
rm -rf "$dir" "$tmp/slow.img"
truncate -s 8M "$tmp/slow.img"
late_forget slow
start_late slow
start_it
must_migrate "$(uri proxy)" "$(uri slow)"
cue slow 'write hold until=now at=0 count=1'
start_bg guest qemu-io -f raw -c 'write -P 0x53 0 64k' "$(uri proxy)"
wait_for write_has came
end_bg proxy
wait_bg guest || : # it was cut off
lock_is_empty
first_client
must_wait
end_bg proxy
first_client
must_wait
stop_disks

echo "-- but after a kill, until the destination was there"
start_pivoted
write_some
crash_bg proxy
first_client
must_wait
crash_bg proxy
end_bg there
start_it
expect_status 1 nbdinfo --size "$(uri proxy)" > "$tmp/size" 2>&1
end_bg proxy
start_nbdkit there memory 8M
first_client
must_wait
end_bg proxy

echo "-- or where the lock is gone, or what is left cannot be kept"
rm "$dir/lock"
first_client
must_wait
end_bg proxy
end_bg there
start_pivoted
/usr/bin/python3 -c 'import sys, nbd
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b"u" * 4096, 0)' "$(uri proxy)"
crash_bg there
mkdir "$dir/.new-kept"
end_bg proxy
grep -q 'could not be kept' "$tmp/proxy.log"
! lock_is_empty || fail "nothing is left, it says"
rmdir "$dir/.new-kept"

echo "-- and for as long as it was seen to take before, in the copy and by the relay"
rm -rf "$dir" "$tmp/slow.img"
truncate -s 8M "$tmp/slow.img"
late_forget slow
start_late slow
start_it
write_some
# A clock that is read after the request was sent sees a little less.
cue slow 'write late ms=1600 at=0 count=1'
must_migrate "$(uri proxy)" "$(uri slow)"
must_have_status "$(uri proxy)" '.relay.longest_answer_ms >= 1500'
crash_bg proxy
first_client
must_wait
must_have_status "$dir" '.relay.longest_answer_ms >= 1500'
cue slow 'write hold until=now at=0 count=1'
start_bg guest qemu-io -f raw -c 'write -P 0x53 0 64k' "$(uri proxy)"
touch "$tmp/hurry"
wait_for says 'ms for a request'
rm "$tmp/hurry"
crash_bg proxy
wait_bg guest || : # it was cut off
go slow now
first_client
must_have_status "$dir" '.relay.longest_answer_ms >= 3000'

echo "-- which says nothing of another server"
truncate -s 8M "$tmp/next.img"
start_late next
cue next 'write hold until=next at=0'
start_migrate "$(uri proxy)" "$(uri next)"
wait_for late_has next 'write 0 .* came$'
crash_bg migrator
wait_for session_is_over
# Two seconds, or twice as long as this write was unanswered on a busy machine; for
# the other server it would be twice what was seen there.
must_have_status "$dir" '.quarantined_bytes > 0 and .quarantine_ms < 4000'
go next next
stop_disks next
