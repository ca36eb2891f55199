#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Requests to write zeroes are 64 MiB long, 32 MiB where the server states no
# block sizes: see test-long-zeroes.  A destination that writes zeroes out takes
# its time for each: eight long ones would look like a server that has gone, and
# no flush would come between them.  Where they are slow they become shorter, but
# not once for each of those in flight.
# (These destinations do not say what reads as zeroes there already.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

MiB=$((1024 * 1024))
size=$((1536 * MiB))

lengths ()
{
  # Neither of a mark's place, nor of what was read before the source was asked.
  logged_lengths Zero "$tmp/requests" | awk '$1 > 262144'
}

# copy_zeroes ARGUMENT...: to such a server; what was asked for at a time is in
# $longest.
copy_zeroes ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/requests"
  start_proxy proxy memory $size
  start_nbdkit destination --filter=log --filter=noextents "$@" \
    logfile="$tmp/requests"
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  end_bg proxy
  end_bg destination
  [ "$(completed zeroed_bytes)" -eq $size ]
  longest=$(lengths | sort -n | tail -n 1)
  echo "$*: at most $((longest / MiB)) MiB at a time," \
       "$(completed duration_ms) ms"
}

# nbdkit's memory plugin does since 1.38.
truncate -s $size "$tmp/copy"
copy_zeroes file "$tmp/copy"
((longest == 32 * MiB)) || fail "no block sizes: not 32 MiB at a time"
copy_zeroes --filter=blocksize-policy memory $size blocksize-minimum=512 \
  blocksize-preferred=4K blocksize-maximum=1M
((longest == 64 * MiB)) || fail "not 64 MiB at a time"

has_asked ()
{
  [ "$(lengths | wc -l)" -ge "$1" ]
}

# Eight are in flight and twice as many wait, all of one length: what their answers
# have changed is seen after them, and what the answers to those of half the length
# change comes after twice as many.
echo "-- slow: half as long"
rm -rf "$tmp/proxy.dir" "$tmp/requests"
start_proxy proxy memory 8G
start_nbdkit destination --filter=log --filter=noextents --filter=delay memory 8G \
  delay-zero=2100ms logfile="$tmp/requests"
rm -f "$tmp/hurry"
hurried 5 start_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
wait_for has_asked 40
lengths | head -n 40 | uniq -c
lengths | head -n 40 | sort -n > "$tmp/lengths"
[ "$(head -n 1 "$tmp/lengths")" -eq $(($(tail -n 1 "$tmp/lengths") / 2)) ] ||
  fail "they become shorter more than once for the same"
kill_bg migrator INT
touch "$tmp/hurry"
expect_status 3 wait_bg migrator
end_bg proxy
end_bg destination

echo "-- slow, in runs of less than the full length: half as long as these"
rm -rf "$tmp/proxy.dir" "$tmp/requests"
truncate -s 1G "$tmp/source"
for ((at = 0; at < 1024; at += 33)); do
  printf x | dd of="$tmp/source" bs=1M seek=$at conv=notrunc status=none
done
start_proxy proxy file "$tmp/source"
start_nbdkit destination --filter=log --filter=noextents --filter=delay memory 1G \
  delay-zero=2100ms logfile="$tmp/requests"
rm -f "$tmp/hurry"
hurried 5 start_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
wait_for has_asked 34
[ "$(lengths | tail -n 1)" -le $((17 * MiB)) ] || fail "they stay as long"
kill_bg migrator INT
touch "$tmp/hurry"
expect_status 3 wait_bg migrator
end_bg proxy
end_bg destination

# Five holes of 31 MiB, with a MiB of data before each.
echo "-- slow: data does not wait for them"
rm -rf "$tmp/proxy.dir" "$tmp/source"
truncate -s 160M "$tmp/source"
for ((at = 0; at < 160; at += 32)); do
  head -c $MiB /dev/urandom |
    dd of="$tmp/source" bs=1M seek=$at conv=notrunc status=none
done
start_proxy proxy file "$tmp/source"
start_nbdkit destination eval get_size='echo 160M' thread_model='echo parallel' \
  can_write='exit 0' can_zero='exit 0' can_flush='exit 0' flush='exit 0' \
  can_multi_conn='exit 0' \
  pread="dd if=$tmp/kept bs=64K skip=\$4 count=\$3 \
    iflag=skip_bytes,count_bytes status=none" \
  pwrite="dd of=$tmp/kept bs=64K seek=\$4 oflag=seek_bytes conv=notrunc \
    status=none; echo \$3 >> $tmp/written" \
  zero="[ \$3 -gt 4096 ] || exit 0 # where there was a mark
    while [ ! -e $tmp/go ]; do sleep 0.02; done"
: > "$tmp/written"
truncate -s 160M "$tmp/kept"
has_written ()
{
  [ "$(awk '{ n += $1 } END { print n + 0 }' "$tmp/written")" -ge "$1" ]
}
start_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
wait_for has_written $((5 * MiB))
touch "$tmp/go"
wait_bg migrator
