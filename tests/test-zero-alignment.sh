#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A device with sectors of 4096 bytes behind nbdkit's file plugin: it states no
# block sizes, takes writes of any length, and answers EINVAL when it is asked to
# zero or to trim parts of a sector.  The copy of a disk that ends in one works
# all the same, and so does after a pivot what worked for the guest before.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy nbdsh jq cmp losetup
requires_root
# It wants the distribution's Python.
nbdsh ()
{
  PATH=/usr/bin:$PATH command nbdsh "$@"
}
nbdsh -c 'exit (0)' 2> "$tmp/nbdsh.log" || skip "nbdsh does not run"

MiB=$((1024 * 1024))
size=$((8 * MiB + 512))
S=$(uri proxy)
D=$(uri destination)

head -c $((8 * MiB + 4096)) /dev/zero | tr '\0' '\377' > "$tmp/device"
loop=$(losetup --find --show --sector-size 4096 "$tmp/device" \
  2> "$tmp/losetup.log") ||
  skip "no loop device can be had: $(cat "$tmp/losetup.log")"
at_end "losetup --detach $loop"

# The same requests, one by one, to a disk where they work.
start_nbdkit twin memory $size
requests="
h.pwrite (b'\\7' * $MiB, 0)
h.zero (512, 512)
h.zero (5 * 512, 4096 - 512)
h.zero ($MiB // 2 + 512, 3 * 4096 + 512)
h.zero (4096, 8 * 4096)
h.pwrite (b'\\5' * 4096, 2 * $MiB)
h.trim (512, 2 * $MiB + 512)
h.flush ()
"
same ()
{
  nbdcopy --no-extents "$1" "$tmp/a"
  nbdcopy --no-extents "$2" "$tmp/b"
  cmp -n $size "$tmp/a" "$tmp/b" || fail "$1 and $2 differ"
}

echo "-- a disk that ends inside a sector, zero at its end"
truncate -s $size "$tmp/source"
printf x | dd of="$tmp/source" bs=1 seek=4000000 conv=notrunc status=none
start_nbdkit destination --filter=log file "$loop" logfile="$tmp/requests"
start_proxy proxy file "$tmp/source"
must_migrate "$S" "$D"
same "$D" "$S"
[ "$(tail -c $((4096 - 512)) "$tmp/device" | tr -d '\377' | wc -c)" -eq 0 ] ||
  fail "what is behind the disk's end was changed"
(($(completed zeroed_bytes) > 7 * MiB)) || fail "the zeroes are sent as data"

echo "-- the guest's requests after the pivot"
nbdsh -u "$(uri twin)" -c "h.pwrite (b'x', 4000000)" -c "$requests"
nbdsh -u "$S" -c "$requests" || fail "a request failed that worked before"
# A trim may leave anything, here it does nothing.
nbdsh -u "$(uri twin)" -c "h.pwrite (b'\\5' * 512, 2 * $MiB + 512)"
same "$S" "$(uri twin)"

echo "-- what is not flushed is written again when the destination was lost"
nbdsh -u "$S" -c "h.zero (512, 5 * $MiB + 512)" -c "h.trim (512, 512)" \
  -c "h.pwrite (b'\\3' * 1024, 6 * $MiB)"
nbdsh -u "$(uri twin)" -c "h.pwrite (b'\\3' * 1024, 6 * $MiB)"
crash_bg destination
start_nbdkit destination file "$loop"
nbdsh -u "$S" -c "h.flush ()" || fail "the flush tells of an error"
same "$S" "$(uri twin)"
end_bg proxy
