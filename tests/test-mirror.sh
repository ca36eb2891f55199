#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Guests' writes on both sides (R6, R12, R15, R17): what is mirrored, what ends
# that, and that no guest sees anything of it.  The test is the migrator
# (tests/mirror.sh); what comes in between is in test-planted-mirror.sh.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/mirror.sh
source "$SRCDIR/tests/mirror.sh"
requires nbdkit nbdcopy jq qemu-io nbdinfo

echo "-- clean chunks stay clean; both sides have the data"
start_mirror $((4 * chunk))
must_be_tracked '.mirror.state == "off" and .remaining_bytes == 0'
mirror_on
write_to 0 1 $((2 * chunk))
must_be_tracked ".mirror.writes == 1 and .mirror.bytes == 2 * $chunk"
must_be_tracked ".dirty_bytes == 0 and .unflushed_bytes == 2 * $chunk"
sides_are_equal || fail "mirrored, and not equal"
cue destination 'flush late ms=0'
flush_all
late_has destination ' flush .* answered' || fail "nobody has flushed"
must_be_tracked '.unflushed_bytes == 0'

echo "-- zeroes and trims, parts of blocks are no matter here"
qemu-io -f raw -c "write -z 4096 4096" "$(uri proxy)" > "$tmp/io.out"
must_be_tracked '.mirror.writes == 2 and .dirty_bytes == 0'
sides_are_equal || fail "zeroes: the sides differ"
qemu-io -f raw -c "discard 8192 4096" "$(uri proxy)" > "$tmp/io.out"
must_be_tracked ".mirror.not_mirrored_writes == 1 and .dirty_bytes == $chunk"
settle

echo "-- a guest's flush and FUA are the source's business"
cue destination 'flush hang'
qemu-io -f raw -c "write -f -P 2 0 4096" -c "flush" "$(uri proxy)" > "$tmp/io.out"
must_be_tracked '.mirror.writes == 3 and .mirror.state == "on"'
cue destination
flush_all

echo "-- off: nothing more goes there"
mirror_off
must_be_tracked '.mirror.state == "off" and .mirror.demotions == 0'
write_to 0 3
must_be_tracked ".dirty_bytes == $chunk"
settle

echo "-- an error of the destination is none of the guest's"
mirror_on
cue destination 'write fail count=1'
write_to 0 4
must_be_tracked '.mirror.state == "off" and .mirror.demotions == 1'
must_be_tracked '(.mirror.why | test("error")) and .quarantined_bytes == 0'
settle
mirror_on
cue destination 'zero fail count=1'
qemu-io -f raw -c "write -z 0 4096" "$(uri proxy)" > "$tmp/io.out"
must_be_tracked ".mirror.state == \"on\" and .dirty_bytes == $chunk"
settle

echo "-- one that does not answer: the guest goes on, the chunk is in quarantine"
mirror_on 50
cue destination 'write hold until=answer count=1'
write_to 0 5
must_be_tracked '.mirror.state == "ending" and .mirror.demotions == 2'
must_be_tracked ".dirty_bytes == $chunk and .quarantined_bytes == $chunk"
must_be_tracked '.mirror.unanswered == 1 and .old_connections == 1'
write_to 0 6
settle
talk compare '{"cursor": 0, "max_bytes": 1048576, "quarantined": true}'
[ "$(answered '.return.extents | length')" -eq 0 ] ||
  fail "compared while a write may land: $answer"
talk hold '{"deadline_ms": 5000}'
token=$(answered .return.token)
ask commit "{\"token\": \"$token\", \"finish\": \"detach\"}"
[ "$(answered .error.class)" = NotClean ] || fail "committed: $answer"
talk release "{\"token\": \"$token\"}"
echo "   and mirrored is what is elsewhere"
mirror_on
write_to 0 7 4096
must_be_tracked ".dirty_bytes == $chunk"
write_to $chunk 7
must_be_tracked ".dirty_bytes == $chunk"
settle
go destination answer
wait_for is_tracked '.mirror.unanswered == 0 and .old_connections == 0'
talk compare '{"cursor": 0, "max_bytes": 1048576, "quarantined": true}'
lease=$answer
[ "$(answered '.return.extents | length')" -eq 1 ] || fail "not compared: $answer"
sides_are_equal && fail "the late write has changed nothing"
talk compared "{\"extents\": [[0, $chunk]], \"equal\": false}"
must_be_tracked ".dirty_bytes == $chunk"
settle
talk compare '{"cursor": 0, "max_bytes": 1048576, "quarantined": true}'
talk compared "{\"extents\": [[0, $chunk]], \"equal\": true}"
flush_all
must_be_tracked '.quarantined_bytes == 0 and .remaining_bytes == 0'
sides_are_equal || fail "a late write was forgotten"

echo "-- the session ends with a write unanswered"
mirror_on
cue destination 'write hold until=late-answer count=1'
start_write held 8192 8
wait_for late_has destination ' write 8192 .* came'
leave_session
begin_session
must_be_tracked '.mirror.state == "ending"'
ask mirror '{"enabled": true}'
[ "$(answered .error.class)" = Busy ] || fail "not Busy: $answer"
go destination late-answer
wait_bg held || fail "the guest's write failed"
must_be_tracked ".dirty_bytes > 0"
copy_all
may_mirror ()
{
  ask mirror '{"enabled": true, "max_ms": 60000}'
  [[ $answer == '{"return"'* ]]
}
wait_for may_mirror
wait_for mirror_is on

echo "-- a commit ends it: a detached copy is not written to"
flush_all
talk hold '{"deadline_ms": 5000}'
token=$(answered .return.token)
talk commit "{\"token\": \"$token\", \"finish\": \"detach\"}"
talk release "{\"token\": \"$token\"}"
before=$(sha256sum < "$tmp/destination.img")
write_to 0 9
[ "$before" = "$(sha256sum < "$tmp/destination.img")" ] ||
  fail "the detached copy was written to"
ask mirror '{"enabled": true}'
[ "$(answered .error.class)" = BadArgument ] || fail "on again: $answer"
stop_mirror

echo "-- killed: what was mirrored and not flushed is dirty"
start_mirror $((4 * chunk)) volatile=1
mirror_on
write_to 0 10
flush_all
write_to $chunk 11
crash_bg destination
# One connection has written, another has not; each is lost by itself.
wait_for is_tracked ".dirty_bytes == $chunk and .unflushed_bytes == 0"
must_be_tracked '.mirror.state == "off" and .mirror.demotions == 1'
write_to 0 12 # the guest has not noticed
start_late destination volatile=1
talk lost
epoch=$(answered .return.epoch)
settle
sides_are_equal || fail "what was mirrored and lost was not copied"
mirror_on
write_to 0 13
must_be_tracked '.mirror.state == "on" and .dirty_bytes == 0'
flush_all
sides_are_equal || fail "mirrored and flushed, and not equal"

echo "-- killed with a write on its way"
cue destination 'write hold until=never count=1'
start_write held 0 14
wait_for late_has destination ' write 0 .* came'
crash_bg destination
wait_bg held || fail "the guest's write failed"
must_be_tracked ".dirty_bytes >= $chunk and .quarantined_bytes == $chunk"
start_late destination volatile=1
stop_mirror

echo "-- not without multi-conn"
max_gate=2s
start_mirror $chunk multi-conn=0
talk mirror '{"enabled": true}'
wait_for mirror_is off
must_be_tracked '.mirror.why | test("multi-conn")'
echo "   nor may a guest wait longer than at the gate"
ask mirror '{"enabled": true, "max_ms": 2001}'
[[ $answer == *migrate-max-gate* ]] || fail "not refused: $answer"
stop_mirror

echo "-- what an ended session had under lease is not in doubt for hours"
start_mirror $chunk
write_to 0 15
talk take '{"cursor": 0, "max_bytes": 1048576}'
leave_session
begin_session
must_be_tracked ".quarantined_bytes == $chunk and .quarantine_ms < 600000"
stop_mirror
