#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A write that the destination carries out long after the migrator that sent it
# is gone never comes to lie over what a guest wrote since (R17): the next run
# does not complete before the write is answered, whoever closes the connection
# first.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq qemu-io qemu-nbd

write ()
{
  qemu-io -f raw -c "write -P $1 0 64k" -c flush "$(uri proxy)" \
    > "$tmp/qemu-io.out"
}

reads ()
{
  qemu-io -f raw -c "read -P $1 0 64k" "$2" > "$tmp/qemu-io.out" || return
  ! grep -q 'verification failed' "$tmp/qemu-io.out"
}

# start_disks SERVER: of the proxy, with one chunk of data, and the destination,
# which takes its time for that.  Between them may be a qemu-nbd, which closes
# connections before it has done what it was asked for.
start_disks ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/slow.img"
  truncate -s 8M "$tmp/slow.img"
  late_forget slow
  start_proxy proxy memory 8M
  start_late slow
  cue slow 'write hold until=now at=0 least=8192'
  destination=$(uri slow)
  if [ "$1" = qemu-nbd ]; then
    start_late_qemu_nbd qemu slow
    destination=$(uri qemu)
  fi
  write 0x53
}

stop_disks ()
{
  go slow now
  end_bg proxy
  [ -z "${pids[qemu]:-}" ] || end_bg qemu
  end_bg slow
}
at_end 'go slow now'

write_has ()
{
  late_has slow "write 0 .* $1\$"
}

# is_recorded MS: so long a delay at least, for the next proxy.
is_recorded ()
{
  local slot

  for slot in 0 65536; do
    [ "$(od -An -tu4 -j$((slot + 100)) -N4 "$tmp/proxy.dir/state")" -lt "$1" ] ||
      return 0
  done
  return 1
}

session_is_over ()
{
  [ "$(status .session)" = false ]
}

# The run must not complete before the write has landed, and says why.
waits_for_old_write ()
{
  is_child "${pids[migrator]}" || fail "it completed: $(cat "$tmp/migrator.log")"
  grep -q 'an earlier run .* not been answered' "$tmp/migrator.log"
}

# The second run: the guest has written anew since the first one was given up.
goes_on ()
{
  cue slow # what is held stays so
  start_migrate "$(uri proxy)" "$destination"
  write 0x4e
  wait_for waits_for_old_write
    must_have_status "$(uri proxy)" '.old_connections == 1'
  wait_for has_status "$(uri proxy)" '.progress.phase == "late-writes"'
  "$nbdmigrate" status "$(uri proxy)" > "$tmp/status"
  grep -q '^progress .*late-writes .* waiting for an old write$' "$tmp/status" ||
    fail "it does not say what it waits for: $(cat "$tmp/status")"
  go slow now
  wait_for write_has landed
  wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
  sed 's/^/   /' "$tmp/migrator.log"
  [ "$(status .owner)" = destination ]
  reads 0x4e "$(uri proxy)" || fail "the guest's write is gone"
}

# Others are in flight with it, and are answered after the migrator's end.  Not
# all of them are held: nothing says that the one that matters comes first, and
# the migrator sends only so many before there is an answer.
others ()
{
  grep -c "write [1-9][0-9]* .* $1\$" "$tmp/slow.cue/log" || :
}
others_are_held ()
{
  [ "$(others came)" -gt 0 ] && [ "$(others came)" -gt "$(others answered)" ]
}
others_are_answered ()
{
  [ "$(others came)" -eq "$(others answered)" ]
}

for server in nbdkit qemu-nbd; do
  echo "-- $server is slow, the migrator is killed"
  start_disks $server
  qemu-io -f raw -c 'write -P 0x53 0 8M' "$(uri proxy)" > "$tmp/qemu-io.out"
  cue slow 'write hold until=now at=0 least=8192' \
    'write hold until=others least=65536 count=4'
  start_migrate "$(uri proxy)" "$destination"
  wait_for write_has came
  wait_for others_are_held
  wait_for only_held_is_left slow $((8 * 1024 * 1024))
  crash_bg migrator
  wait_for session_is_over
  go slow others
  wait_for others_are_answered
  goes_on
  stop_disks
done

echo "-- it is waited for, which can be interrupted"
start_disks qemu-nbd
hurried 5 start_migrate "$(uri proxy)" "$destination"
wait_for grep -q 'answered nothing for [0-9]* s: waiting' "$tmp/migrator.log"
wait_for is_recorded 2000
kill_bg migrator INT
touch "$tmp/hurry"
expect_status 3 wait_bg migrator
tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative'
goes_on
stop_disks

echo "-- and that is all: it completes"
start_disks nbdkit
start_migrate "$(uri proxy)" "$destination"
wait_for grep -q 'answered nothing for [0-9]* s: waiting' "$tmp/migrator.log"
go slow now
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
grep -q 'answers again' "$tmp/migrator.log"
stop_disks

echo "-- another destination has nothing to do with it, the same one has"
start_disks nbdkit
start_nbdkit other memory 8M
start_migrate "$(uri proxy)" "$destination"
wait_for write_has came
crash_bg migrator
wait_for session_is_over
must_migrate --finish=detach "$(uri proxy)" "$(uri other)"
must_have_status "$(uri proxy)" '.old_connections == 1'
goes_on
stop_disks

# The same after a pivot, where the proxy has sent the write: the disk does not
# move on before that is over.  Nobody would know when it comes back.

must_stay ()
{
  grep -q 'the disk stays until it cannot be' "$tmp/migrator.log"
}

has_left_or_stays ()
{
  has_ended "${pids[migrator]}" || must_stay
}

is_late ()
{
  has_status "$(uri proxy)" '.relay.oldest_request_ms >= 4000'
}

# restart_proxy ARGUMENT...: its time can be made to run faster.
restart_proxy ()
{
  end_bg proxy
  rm -f "$tmp/hurry"
  hurried 4 start_proxy proxy "$@"
}

# moves_on URI: a guest's write is not answered, and sent again on another
# connection, where it is; the first one lands while the disk is to move on.
# That is waited for twice as long as the write was unanswered, and it must not
# be over before the migrator, on a busy machine, is where it looks.
moves_on ()
{
  must_migrate "$(uri proxy)" "$destination"
  write 0x22
  cue slow 'write hold until=now at=0 count=1'
  start_bg guest qemu-io -f raw -c 'write -P 0x53 0 64k' "$(uri proxy)"
  wait_for write_has came
  touch "$tmp/hurry"
  wait_for is_late
  rm "$tmp/hurry"
  crash_bg qemu
  start_late_qemu_nbd qemu slow
  wait_bg guest
  start_migrate "$(uri proxy)" "$1"
  wait_for has_left_or_stays
  ! must_stay || go slow now
  touch "$tmp/hurry"
  wait_bg migrator
}

# And back to where that write was sent.
comes_back ()
{
  write 0x4e
  must_migrate "$(uri proxy)" "$destination"
  go slow now
  wait_for write_has landed
  reads 0x4e "$(uri proxy)" || fail "the guest's write is gone"
  must_stay || fail "the disk has moved on at once"
  stop_disks
}

echo "-- the disk moves on from where a write may land; the proxy restarts"
start_disks qemu-nbd
cue slow
restart_proxy memory 8M
start_nbdkit next memory 8M
moves_on "$(uri next)"
end_bg proxy
start_proxy proxy memory 8M
comes_back

echo "-- the same, to the local image"
start_disks qemu-nbd
cue slow
truncate -s 8M "$tmp/local"
restart_proxy file "$tmp/local"
moves_on local:
comes_back
