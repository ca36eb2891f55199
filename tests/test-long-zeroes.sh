#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# There are servers that answer a long request to write zeroes with success
# and zero its first 64 MiB only: nbdkit before 1.44.1 where its plugin turns
# out to have no way of its own to zero, and nbd-server.  Old data must not
# stay behind a long hole there: not in the copying, not when a guest zeroes
# after a pivot, and not when it zeroes before one a disk that such a plugin
# serves.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo nbdcopy nbd-server nbdsh cmp
# It wants the distribution's Python.
nbdsh ()
{
  PATH=/usr/bin:$PATH command nbdsh "$@"
}
nbdsh -c 'exit (0)' 2> "$tmp/nbdsh.log" || skip "nbdsh does not run"

MiB=$((1024 * 1024))
size=$((448 * MiB))       # the sixth request would be longer, if any may be
guest_size=$((130 * MiB)) # what a guest zeroes at once
S=$(uri proxy)

# old_data FILE BYTES: there are no zeroes in it, to begin with.
head -c $size /dev/zero | tr '\0' '\377' > "$tmp/old"
old_data ()
{
  head -c "$2" "$tmp/old" | dd of="$1" bs=1M conv=notrunc status=none
}

# start_eval NAME FILE COMMAND...: a plugin that finds out only when it is
# asked that it cannot zero; with the command nbdkit is started by.
start_eval ()
{
  "${@:3}" "$1" eval \
    get_size="stat -c %s $2" \
    pread="dd if=$2 skip=\$4 count=\$3 iflag=skip_bytes,count_bytes bs=1M" \
    pwrite="dd of=$2 seek=\$4 oflag=seek_bytes bs=1M conv=notrunc" \
    can_write='exit 0' can_zero='exit 0' can_flush='exit 0' flush='exit 0' \
    can_multi_conn='exit 0' thread_model='echo parallel' \
    zero='echo EOPNOTSUPP >&2; exit 1'
}

# all_zero FILE BYTES WHAT: but for its begin.
all_zero ()
{
  cmp -n $(($2 - 65536)) -i 65536:0 "$1" /dev/zero ||
    fail "$3: old data is left"
}

# guest_zeroes URI: one request of its own, as long as it may be.
guest_zeroes ()
{
  nbdsh -u "$1" -c "h.zero ($((guest_size - 65536)), 65536)" -c 'h.flush ()' ||
    fail "a guest's zeroes"
}

# copy_and_pivot WHAT URI FILE
copy_and_pivot ()
{
  echo "-- $1: the copying"
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy memory $size
  # One connection: the requests may become longer soon.
  must_migrate --connections=1 "$S" "$2"
  all_zero "$3" $size "$1, copied"
  echo "-- $1: a guest's zeroes after the pivot"
  old_data "$3" $guest_size
  guest_zeroes "$S"
  all_zero "$3" $guest_size "$1, zeroed by a guest"
  end_bg proxy
}

old_data "$tmp/destination" $size
start_eval destination "$tmp/destination" start_nbdkit
copy_and_pivot nbdkit "$(uri destination)" "$tmp/destination"
end_bg destination

old_data "$tmp/destination" $size
start_nbd_server "$tmp/destination"
copy_and_pivot nbd-server "$nbd_server_uri" "$tmp/destination"

echo "-- a guest's zeroes on a source without a migration"
old_data "$tmp/source" $guest_size
rm -rf "$tmp/proxy.dir"
start_eval proxy "$tmp/source" start_proxy
guest_zeroes "$S"
all_zero "$tmp/source" $guest_size "the source"
