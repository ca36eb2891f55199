#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# What of the source reads as zeroes.  It is asked over the control socket: no
# reply to a block status request can be under way when nbdmigrate is killed.
# A plugin that takes its time stalls neither guests nor status nor the session,
# and is not believed where it cannot know: below it may be a cache.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo nbdcopy qemu-io jq cmp
S=$(uri proxy)
D=$(uri destination)

# start_eval ARGUMENT...: the proxy of a plugin that holds $tmp/source, and says
# of it what the arguments say.
before_reading=
start_eval ()
{
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy eval \
    get_size="stat -c %s $tmp/source" thread_model='echo parallel' \
    pread="$before_reading
           dd if=$tmp/source skip=\$4 count=\$3 iflag=skip_bytes,count_bytes bs=1M" \
    pwrite="dd of=$tmp/source seek=\$4 oflag=seek_bytes bs=1M conv=notrunc" \
    can_write='exit 0' can_multi_conn='exit 0' can_extents='exit 0' \
    can_flush='exit 0' "$@"
}

start_session ()
{
  nbdinfo --size "$S" > "$tmp/nbdinfo.out"
  start_talker proxy
  talk attach '{"export": ""}'
  talk begin '{"destination": "nbd://nowhere"}'
}

# zero_of QUESTION OFFSET LENGTH: in $zero.
zero_of ()
{
  local args="{\"question\": $1, \"offset\": $2, \"length\": $3}"

  talk extents "$args"
  while [ "$(answered .return.pending)" = true ]; do
    talk extents "$args"
  done
  zero=$(answered '.return.zero | tojson')
}

says ()
{
  [ "$zero" = "$1" ] || fail "it says $zero instead of $1"
}

echo "-- no block status is asked by NBD"
truncate -s 64M "$tmp/source"
for ((at = 0; at < 64; at += 5)); do
  printf x | dd of="$tmp/source" bs=1M seek=$at conv=notrunc status=none
done
start_nbdkit proxy --filter=log --filter="$filter" file "$tmp/source" \
  migrate-dir="$tmp/proxy.dir" logfile="$tmp/requests"
start_nbdkit destination memory 64M
must_migrate --finish=detach "$S" "$D"
[ "$(logged_lengths Extents "$tmp/requests" | wc -l)" -eq 0 ] ||
  fail "it is asked by NBD"
same_content "$S" "$D"
(($(completed copied_bytes) < 1024 * 1024)) || fail "holes were copied as data"
(($(completed sampled_bytes) > 0)) || fail "no sample was taken"
[ "$(completed sample_seed)" -ge 0 ] || fail "there is no seed"
end_bg proxy
end_bg destination

size=8388608
rm "$tmp/source"
truncate -s $size "$tmp/source"

echo "-- it is flushed first, and what a guest writes later is not zero"
start_eval flush="touch $tmp/flushed" \
  extents="[ -e $tmp/flushed ] || touch $tmp/too-early; echo 0 8M zero"
start_session
zero_of 1 0 4194304
says '[[0,4194304]]'
[ -e "$tmp/flushed" ] || fail "it was not flushed"
[ ! -e "$tmp/too-early" ] || fail "it was asked before it was flushed"
qemu-io -f raw -c 'write 1M 1k' -c 'write -z 2M 128k' "$S" > "$tmp/qemu-io.out"
zero_of 2 0 4194304
says '[[0,1048576],[1052672,1044480],[2228224,1966080]]'
zero_of 3 $((2 * 1024 * 1024)) 131072
says '[]'
ask extents '{"question": 4, "offset": 0, "length": 8388609}'
[ "$(answered .error.class)" = BadArgument ] || fail "past the end: $answer"
stop_talker
echo "   a new session believes what was flushed since"
start_session
zero_of 1 0 4194304
says '[[0,4194304]]'
stop_talker
end_bg proxy

echo "-- a plugin that does not answer stalls nobody, not even the next session"
start_eval flush='exit 0' \
  extents="touch $tmp/asked; while [ ! -e $tmp/go ]; do sleep 0.02; done
           echo 0 8M"
start_nbdkit destination memory 8M
start_migrate --finish=detach "$S" "$D"
wait_for [ -e "$tmp/asked" ]
qemu-io -f raw -c 'write -P 3 1M 64k' -c flush -c 'read -P 3 1M 64k' "$S" \
  > "$tmp/qemu-io.out"
is_bulk ()
{
  has_status "$tmp/proxy.dir" '.progress.phase == "bulk"'
}
wait_for is_bulk # published after the question: the session lives
crash_bg migrator
wait_for has_status "$tmp/proxy.dir" '.session | not'
rm "$tmp/asked"
start_migrate --finish=detach "$S" "$D"
wait_for has_event started
kill_bg proxy 0 || fail "the proxy has ended"
touch "$tmp/go"
kill_bg migrator INT
expect_status 3 wait_bg migrator
end_bg proxy
end_bg destination

# copies_all PATTERN: though it is said that there is nothing.
copies_all ()
{
  start_nbdkit destination memory 8M
  must_migrate --finish=detach "$S" "$D"
  nbdcopy --no-extents "$D" "$tmp/copy"
  nbdcopy --no-extents "$S" - | cmp - "$tmp/copy" || fail "the copy is wrong"
  end_bg destination
}

echo "-- a plugin that is mistaken is found out by a sample"
head -c 8M /dev/urandom > "$tmp/source"
start_eval flush='exit 0' extents='echo 0 8M hole,zero'
copies_all
grep -q 'is not zero, although it is said to be (found by a random sample, seed' \
  "$tmp/migrate.log" || fail "it was not said"
[ "$(event 'map(select(.event == "policy").decision) | index ("copy-all")')" \
  != null ] || fail "there is no event"
end_bg proxy

echo "-- what a guest writes before the sample is read is no mistake"
# As the first block is read, a guest writes all over it.
rm "$tmp/source"
truncate -s $size "$tmp/source"
before_reading="if mkdir $tmp/raced 2> /dev/null; then
                  qemu-io -f raw -c 'write -P 9 0 8M' '$S' > $tmp/guest.out
                fi"
start_eval flush='exit 0' extents='echo 0 8M hole,zero'
copies_all
[ -d "$tmp/raced" ] || fail "no sample was taken"
(($(completed copied_bytes) >= size)) || fail "what the guest wrote is not there"
[ "$(event 'map(select(.decision == "copy-all")) | length')" -eq 0 ] ||
  fail "it was taken for one"
end_bg proxy

echo "-- a cache below is not asked"
rm "$tmp/source"
truncate -s $size "$tmp/source"
rm -rf "$tmp/proxy.dir"
start_proxy proxy --filter=cache file "$tmp/source" cache=unsafe
qemu-io -f raw -c 'write -P 5 5M 1M' "$S" > "$tmp/qemu-io.out"
copies_all
[ "$(completed sampled_bytes)" -eq 0 ] || fail "it was asked"
end_bg proxy

echo "-- where the plugin cannot be opened once more it is asked by NBD"
rm -rf "$tmp/proxy.dir"
printf x | dd of="$tmp/source" bs=1M seek=5 conv=notrunc status=none
start_proxy proxy --filter=limit file "$tmp/source" limit=1
start_nbdkit destination memory $size
must_migrate --finish=detach --connections=1 "$S" "$D"
(($(completed copied_bytes) < 2 * 1024 * 1024)) ||
  fail "holes were copied as data"
end_bg proxy
end_bg destination

echo "-- a named export: flushed, then one at a time by NBD"
mkdir "$tmp/disks"
mv "$tmp/source" "$tmp/disks/a"
truncate -s $size "$tmp/disks/a"
printf x | dd of="$tmp/disks/a" bs=1M seek=5 conv=notrunc status=none
rm -rf "$tmp/proxy.dir"
start_proxy proxy --filter=log file dir="$tmp/disks" \
  migrate-named-exports=true logfile="$tmp/requests"
S="nbd+unix:///a?socket=$tmp/proxy.sock"
copies_all
if grep -q ' Extents ' "$tmp/requests"; then
  grep -m 1 -E ' (Extents|Flush) ' "$tmp/requests" | grep -q ' Flush ' ||
    fail "it was asked before it was flushed"
fi
(($(completed copied_bytes) < 2 * 1024 * 1024)) ||
  fail "holes were copied as data"
end_bg proxy

echo "-- after a pivot the server where the disk is is asked"
S=$(uri proxy)
rm -rf "$tmp/proxy.dir" "$tmp/requests"
mv "$tmp/disks/a" "$tmp/source"
start_proxy proxy file "$tmp/source"
truncate -s $size "$tmp/first"
start_nbdkit first --filter=log file "$tmp/first" logfile="$tmp/requests"
must_migrate "$S" "$(uri first)"
start_nbdkit destination memory $size
must_migrate --finish=detach "$S" "$D"
grep -q ' Extents ' "$tmp/requests" || fail "it was not asked"
(($(completed copied_bytes) < 2 * 1024 * 1024)) ||
  fail "holes were copied as data"
end_bg proxy
