#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a guest was told is done, and has not flushed, outlives a stop of the proxy
# while the destination is away (R13): it is kept in migrate-dir and sent again at
# the next start, before anything is read or written.  Where it cannot be, nobody
# is served old data, it is said how much of which disk is affected and what to
# do, nothing is removed, and a flush fails.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/told-guest.sh
source "$SRCDIR/tests/told-guest.sh"

size=$((1024 * 1024))
dir=$tmp/proxy.dir

start_lossy ()
{
  start_nbdkit destination "$lossy" file="$tmp/disk" "$@"
}

# start_it [TIME]: requests fail after that.
start_it ()
{
  start_proxy proxy memory $size migrate-reconnect="${1:-5s}"
}

# guest COMMAND...: one that connects now; its answers must be "$answers".
guest ()
{
  local seen

  seen=$(printf '%s\n' "$@" |
           timeout 30 "${told_guest[@]}" "$(uri proxy)" 4096 |
           paste -sd ,) || :
  [ "$seen" = "$answers" ] || fail "$*: $seen instead of $answers"
}

# says_that TEXT: it has by now.
says_that ()
{
  grep -qF -- "$1" "$tmp/proxy.log"
}

says ()
{
  local text

  for text; do
    says_that "$text" ||
      fail "not said: $text in $(cat "$tmp/proxy.log")"
  done
}

# begin: a disk that was pivoted, full of "x", flushed.
begin ()
{
  local name

  for name in proxy destination; do
    [ -z "${pids[$name]:-}" ] || end_bg "$name"
  done
  rm -rf "$dir"
  head -c $size /dev/zero | tr '\0' x > "$tmp/source"
  truncate -s 0 "$tmp/disk"
  truncate -s $size "$tmp/disk"
  start_lossy
  start_proxy proxy file "$tmp/source" migrate-reconnect=5s
  must_migrate "$(uri proxy)" "$(uri destination)"
  # After a restart there is nothing like it at the source.
  answers='x False'
  guest read
}

is_up ()
{
  has_status "$(uri proxy)" .relay.up
}

# An idle relay has all flushed: then it was not away, or stopped, in time.
is_unflushed ()
{
  has_status "$(uri proxy)" '.relay.unflushed_log_bytes > 0'
}

# keep: 12288 bytes, as the destination is away when the proxy stops.
keep ()
{
  answers=ok,ok,ok guest 'write A' 'write B' zero
  crash_bg destination
  until is_unflushed; do
    start_lossy
    wait_for is_up
    answers=ok,ok,ok guest 'write A' 'write B' zero
    crash_bg destination
  done
  end_bg proxy
  [ "$(stat -c %a "$dir/kept")" = 600 ] || fail "others can read what is kept"
    says 'did not flush 12288 bytes' "$dir/kept"
  "$nbdmigrate" status "$dir" | grep -qF "kept         unflushed or unanswered writes, in $dir/kept" ||
    fail "status does not say that something was kept"
}

echo "-- kept, and sent again before anything is read"
begin
keep
start_lossy
start_it
answers='B True,ok' guest read flush
[ ! -e "$dir/kept" ] || fail "it is still kept"
says '12288 bytes that an earlier proxy had kept were sent again'
crash_bg destination
start_lossy
answers='B True' guest read

echo "-- while the destination is away no guest is served"
begin
keep
start_it
answers='' guest read 2> "$tmp/guest.log"
end_bg proxy
[ -e "$dir/kept" ] || fail "it is not kept any more"
start_lossy
start_it
answers='B True,ok' guest read flush

echo "-- another disk is there: they are not sent to it"
begin
answers=ok guest mark
keep
truncate -s $((2 * size)) "$tmp/other"
start_nbdkit destination "$lossy" file="$tmp/other"
for _ in 1 2; do # what was kept is kept again
  start_it 2s
  answers=$failed guest read
  says 'does not hold what was flushed' 'move the kept writes away'
  end_bg proxy
  [ -e "$dir/kept" ] || fail "it is not kept any more"
done
end_bg destination
truncate -s $((2 * size)) "$tmp/nothing"
cmp "$tmp/other" "$tmp/nothing"
start_lossy
start_it
answers='B True,ok' guest read flush
[ ! -e "$dir/kept" ] || fail "it is still kept"

echo "-- a stop with a destination flushes"
begin
answers=ok guest 'write C'
end_bg proxy
[ ! -e "$dir/kept" ] || fail "something was kept"
crash_bg destination
start_lossy
start_it
answers='C False' guest read

echo "-- a destination that hangs when the proxy stops"
begin
answers=ok,ok guest 'write D' zero
kill_bg destination STOP
until is_unflushed; do
  kill_bg destination CONT
  answers=ok,ok guest 'write D' zero
  kill_bg destination STOP
done
end_bg proxy
[ -e "$dir/kept" ] || fail "nothing was kept"
crash_bg destination
start_lossy
start_it
answers='D True,ok' guest read flush

echo "-- a write that was not answered: how long it may take to land is kept"
begin
crash_bg destination
start_lossy dawdle="$tmp/cue"
wait_for is_up
echo 'write S' | "${told_guest[@]}" "$(uri proxy)" 4096 \
  > "$tmp/guest.out" 2>&1 &
guest_pid=$!
wait_for has_status "$(uri proxy)" '.relay.requests_in_flight > 0'
end_bg proxy
wait $guest_pid || :
! grep -q ok "$tmp/guest.out" || fail "it was acknowledged"
[ "$(od -An -tu4 -j20 -N4 "$dir/kept")" -ge 2000 ] ||
  fail "the next proxy would not wait for it"
touch "$tmp/cue"
wait_for test -e "$tmp/cue.done"
start_it
answers='S False,ok' guest read flush
[ ! -e "$dir/kept" ] || fail "it is still kept"

echo "-- it is killed while it sends them again, and so is the proxy"
begin
keep
start_lossy
kill_bg destination STOP
start_it
"${told_guest[@]}" "$(uri proxy)" 4096 < /dev/null \
  2> "$tmp/guest.log" &
guest_pid=$!
crash_bg destination
crash_bg proxy
wait $guest_pid || :
[ -e "$dir/kept" ] || fail "it is not kept any more"
start_lossy
start_it
answers='B True,ok' guest read flush

echo "-- the destination refuses them: nobody is served, and they stay"
begin
keep
start_lossy refuse-writes=1
start_it 2s
answers="$failed" guest flush
says '12288 bytes' 'still kept'
end_bg proxy
end_bg destination
[ -e "$dir/kept" ] || fail "it is not kept any more"
start_lossy
start_it
answers="B True,$failed,ok" guest read flush flush
answers=ok guest flush

# bad TEXT... : what is kept cannot be used.
bad ()
{
  cp -p "$dir/kept" "$tmp/kept"
  start_lossy
  start_it
  answers='' guest read 2> "$tmp/guest.log"
  answers='' guest read 2> "$tmp/guest.log"
  says "$dir/kept" 'move that file away' "$@"
  cmp "$dir/kept" "$tmp/kept" || fail "it was changed"
  mv "$dir/kept" "$tmp/kept"
  # It was lost, and that is not passed over in silence; also after a restart.
  end_bg proxy
  start_it
  answers="x False,$failed,ok" guest read flush flush
  answers=ok guest flush
}

# change OFFSET BYTES: in the file.
change ()
{
  printf '%b' "$2" | dd of="$dir/kept" bs=1 seek="$1" conv=notrunc status=none
}

echo "-- torn"
begin
keep
truncate -s -100 "$dir/kept"
bad 'not whole'

echo "-- rotten: the data"
begin
keep
change 6000 y
bad damaged

echo "-- rotten: the header"
begin
keep
change 30 y
bad 'damaged' 'nobody knows how many bytes'

echo "-- of a newer version"
begin
keep
/usr/bin/python3 - "$dir/kept" <<'END'
import hashlib, sys
with open (sys.argv[1], "r+b") as f:
    header = bytearray (f.read (4096))
    header[16] = 9
    header[4064:] = hashlib.sha256 (header[:4064]).digest ()
    f.seek (0)
    f.write (header)
END
bad 'another version'

echo "-- of another disk"
begin
keep
cp -p "$dir/kept" "$tmp/of-this"
start_lossy
truncate -s $((2 * size)) "$tmp/other-source" "$tmp/other-disk"
start_nbdkit other-destination "$lossy" file="$tmp/other-disk"
start_proxy other file "$tmp/other-source"
must_migrate "$(uri other)" "$(uri other-destination)"
end_bg other
end_bg destination
cp "$tmp/of-this" "$tmp/other.dir/kept"
start_proxy other file "$tmp/other-source"
expect_status 1 nbdinfo "$(uri other)" > "$tmp/info.out" 2>&1
grep -qF "of a disk of $size bytes" "$tmp/other.log" ||
  fail "not said: $(cat "$tmp/other.log")"
cmp "$tmp/of-this" "$tmp/other.dir/kept"
end_bg other
end_bg other-destination

echo "-- a FIFO"
rm "$dir/kept"
mkfifo "$dir/kept"
start_lossy
start_it
answers='' guest read 2> "$tmp/guest.log"
says "$dir/kept" 'is a FIFO' 'move it away'
rm "$dir/kept"
answers="x False,$failed" guest read flush

echo "-- at another address"
begin
keep
start_nbdkit moved "$lossy" file="$tmp/disk"
start_it
"$nbdmigrate" reopen "$dir" owner=destination destination="$(uri moved)" \
  2> "$tmp/reopen.log"
answers='B True,ok' guest read flush
[ ! -e "$dir/kept" ] || fail "it is still kept"
end_bg proxy
crash_bg moved
start_nbdkit moved "$lossy" file="$tmp/disk"
start_it
answers='B True' guest read
end_bg proxy
end_bg moved

echo "-- they were sent, and the file cannot be removed: nobody is served, and it is said"
begin
keep
start_lossy
touch "$tmp/arm"
LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/crash-preload.so CRASH_DIR=$dir \
  CRASH_FILES=kept CRASH_ARM=$tmp/arm CRASH_HOW=fail CRASH_AT=1 \
  CRASH_TO=100000 start_it 2s
answers=$failed guest read
says 'is back and has what was kept' "(removing $dir/kept" 'before that file is gone'
# The next attempt says that the time is over, not the request that fails.
wait_for says_that 'not in use again after 2000 ms'
[ "$(grep -c 'is back and has' "$tmp/proxy.log")" -eq 1 ] || fail "said twice"
[ -e "$dir/kept" ]
rm "$tmp/arm"
wait_for is_up
answers='B True,ok' guest read flush
[ ! -e "$dir/kept" ] || fail "it is still kept"
crash_bg destination
end_bg proxy

[ "$(id -u)" -eq 0 ] && unshare -m true 2> "$tmp/unshare.log" || exit 0

echo "-- no room to keep them: they are lost, and a flush says so"
begin
end_bg proxy
cp -a "$dir" "$tmp/copy"
mount -t tmpfs -o size=512k,mode=700 none "$dir"
at_end "umount '$dir'"
cp -a "$tmp/copy/." "$dir"
start_it
answers=ok guest 'write A'
dd if=/dev/zero of="$dir/filler" bs=4k 2> "$tmp/dd.log" || :
crash_bg destination
end_bg proxy
says 'did not flush 4096 bytes' 'could not be kept' 'No space left'
[ ! -e "$dir/kept" ] || fail "a part was kept"
start_lossy
start_it
answers="x False,$failed,ok" guest read flush flush
