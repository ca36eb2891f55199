#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A hole is not written where the destination says that it reads as zeroes.  It
# is asked about what nothing was written to (R18), after a flush, and not
# believed: samples are read, and --verify reads what was left out, too.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy qemu-io jq
MiB=$((1024 * 1024))
size=$((8 * MiB))
S=$(uri proxy)
D=$(uri destination)

# requests KIND: how many the destination saw, but for that one (of 4 KiB) that
# puts back what was there before a mark.
requests ()
{
  grep -aE " $1 .* offset=" "$tmp/requests" | grep -avc 'count=0x1000 ' || :
}

# How many bytes it was to zero.
zeroed ()
{
  logged_lengths Zero "$tmp/requests" | awk '{ n += $1 } END { print n + 0 }'
}

# start_logged COMMAND...: a destination whose requests are logged.
start_logged ()
{
  rm -f "$tmp/requests"
  start_nbdkit destination --filter=log "$@" logfile="$tmp/requests"
}

# start_liar ARGUMENT...: a destination that says of $tmp/copy what the arguments
# say.
start_liar ()
{
  start_logged eval get_size="echo $size" thread_model='echo parallel' \
    can_write='exit 0' can_zero='exit 0' can_extents='exit 0' \
    can_multi_conn='exit 0' can_flush='exit 0' flush="touch $tmp/flushed" \
    pread="dd if=$tmp/copy skip=\$4 count=\$3 iflag=skip_bytes,count_bytes bs=1M" \
    pwrite="dd of=$tmp/copy seek=\$4 oflag=seek_bytes bs=1M conv=notrunc" \
    zero="head -c \$3 /dev/zero |
      dd of=$tmp/copy seek=\$4 oflag=seek_bytes bs=1M conv=notrunc" "$@"
}

# start_again: the proxy, without a memory of destinations.
start_again ()
{
  [ -z "${pids[proxy]:-}" ] || end_bg proxy
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy file "$tmp/source"
}

# copy_over_data EXTENTS: the destination is full, and says that of itself.
copy_over_data ()
{
  start_again
  head -c $size /dev/urandom > "$tmp/copy"
  start_liar extents="$1"
  must_migrate --finish=detach "$S" "$D"
  cmp "$tmp/source" "$tmp/copy"
  end_bg destination
}

truncate -s $size "$tmp/source"
for at in 0 2 3 4 7; do
  head -c 200000 /dev/urandom |
    dd of="$tmp/source" bs=1M seek=$at conv=notrunc status=none
done

echo "-- all of it reads as zeroes: nothing is zeroed"
start_again
start_logged memory $size
must_migrate --finish=detach "$S" "$D"
same_content "$S" "$D"
[ "$(requests Extents)" -gt 0 ] || fail "it was not asked"
[ "$(zeroed)" -le $((256 * 1024)) ] || fail "what is zero was zeroed"
[ "$(completed skipped_bytes)" -gt $((size / 2)) ]
end_bg destination

echo "-- a little is there, also inside blocks and at the end"
start_again
start_logged memory $size
qemu-io -f raw -c 'write -P 7 1M 4k' -c 'write -P 7 1300001 3000' \
  -c 'write -P 7 5M 700k' -c "write -P 7 $((size - 1)) 1" "$D" > "$tmp/io.out"
must_migrate --finish=detach --verify "$S" "$D"
same_content "$S" "$D"
[ "$(zeroed)" -gt 0 ]
[ "$(completed skipped_bytes)" -gt $((size / 4)) ]
end_bg destination

echo "-- all is there"
start_again
start_logged memory $size
"$referee" pattern --uri "$D" --seed 1 --density 100
must_migrate --finish=detach --verify "$S" "$D"
same_content "$S" "$D"
[ "$(completed skipped_bytes)" -eq 0 ]
end_bg destination

echo "-- it says so only of what was flushed"
start_again
truncate -s 0 "$tmp/copy"
truncate -s $size "$tmp/copy"
rm -f "$tmp/flushed"
start_liar extents="[ -e $tmp/flushed ] || touch $tmp/too-early
                    echo 0 $size zero"
# A mark is flushed, too.
must_migrate --finish=detach "$S" "$D"
[ ! -e "$tmp/too-early" ] || fail "it was asked before it was flushed"
cmp "$tmp/source" "$tmp/copy"
end_bg destination

# It may be told only once of what could not be kept (R6).
echo "-- that flush fails"
start_again
truncate -s 0 "$tmp/copy"
truncate -s $size "$tmp/copy"
start_nbdkit destination "$BUILD/tests/nbdkit-lossy-plugin.so" \
  file="$tmp/copy" fail-flush=1
expect_status 1 migrate --finish=detach "$S" "$D"
grep -q 'flushing .*: the server answered' "$tmp/migrate.log"
must_migrate --finish=detach "$S" "$D"
same_content "$S" "$D"
end_bg destination

echo "-- it does not say, with an error"
copy_over_data 'echo EIO no >&2; exit 1'

echo "-- it does not say for long: all is copied before it does"
start_again
head -c $size /dev/urandom > "$tmp/copy"
touch "$tmp/silent"
start_liar extents="while [ -e $tmp/silent ]; do sleep 0.1; done
                    echo 0 $size zero"
start_migrate --finish=detach "$S" "$D"
wait_for cmp -s "$tmp/source" "$tmp/copy"
rm "$tmp/silent"
wait_bg migrator
cmp "$tmp/source" "$tmp/copy"
end_bg destination

echo "-- it says so of what is not"
copy_over_data "echo 0 $size zero"
grep -q 'what the destination .* says of zeroes is wrong' "$tmp/migrate.log"
grep -q '"copy-all"' "$tmp/events"

echo "-- of a little, which no sample finds, but --verify; then it is not asked"
start_again
truncate -s 0 "$tmp/copy"
truncate -s $size "$tmp/copy"
printf hidden | dd of="$tmp/copy" bs=1M seek=6 conv=notrunc status=none
start_liar extents="echo 0 $size zero"
expect_status 1 migrate --finish=detach --verify --sample-seed=1 "$S" "$D"
grep -q 'returns other bytes' "$tmp/migrate.log"
rm "$tmp/requests"
must_migrate --finish=detach --sample-seed=1 "$S" "$D"
cmp "$tmp/source" "$tmp/copy"
end_bg destination

# It goes on to say what was true before the guest's data was copied there.
echo "-- the source is zero, then data, then zero again"
start_again
truncate -s 0 "$tmp/copy"
truncate -s $size "$tmp/copy"
start_liar extents="echo 0 $size zero"
start_migrate --finish=detach --wait --sample-seed=1 "$S" "$D"
wait_for has_status "$S" '.progress.phase == "ready"'
qemu-io -f raw -c 'write -P 3 6M 64k' "$S" > "$tmp/io.out"
is_copied ()
{
  cmp "$tmp/source" "$tmp/copy" && has_status "$S" '.remaining_bytes == 0'
}
wait_for is_copied
qemu-io -f raw -c 'write -z -u 6M 64k' "$S" > "$tmp/io.out"
"$nbdmigrate" finish --no-wait "$S"
wait_bg migrator
cmp "$tmp/source" "$tmp/copy"
end_bg destination

echo "-- copied, killed, zeroed at the source, run again"
start_again
start_logged memory $size
start_migrate --finish=detach --rate=300K "$S" "$D"
some_are_copied ()
{
  [ "$(requests Write)" -gt 1 ]
}
wait_for some_are_copied
crash_bg migrator
qemu-io -f raw -c "write -z -u 0 $size" "$S" > "$tmp/io.out"
must_migrate --finish=detach "$S" "$D"
same_content "$S" "$D"
end_bg destination
