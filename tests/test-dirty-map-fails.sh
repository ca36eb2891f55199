#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A dirty map that cannot be made, written, removed or read (R14, fault 13): the
# guest and the migration go on, it is said, and the next run after a restart of the
# proxy is a full copy, whatever the file still holds.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/dirty-map.sh
source "$SRCDIR/tests/dirty-map.sh"
requires nbdkit jq qemu-io

prepare ()
{
  new_disks $((2 * 1024 * 1024))
  start_kept
  start_destination
  fill "$S" 100 > "$tmp/fill.out"
}

has_state ()
{
  has_status "$S" ".dirty_map.state == \"$1\""
}

# says TEXT: the proxy of now does.
says ()
{
  grep -qF -- "$1" "$tmp/proxy.log"
}

# The proxy is started again, after a crash, and everything is copied.
must_copy_all ()
{
  crash_bg proxy
  rm -f "$keep/fail" "$keep/stay"
  start_kept
  write_at 1M 4k
  must_migrate --finish=detach "$@" "$S" "$D"
  [ "$(completed resumed)" = false ] || fail "an old map was believed"
  [ "$(completed 'copied_bytes + .zeroed_bytes')" -eq "$size" ] ||
    fail "this was not a full copy"
  cmp "$tmp/disks/source" "$tmp/destination"
  end_bg proxy
  end_bg destination
}

for error in 28 5 30; do
  echo "-- it cannot be made (error $error)"
  prepare
  echo $error > "$keep/fail"
  must_migrate --finish=detach "$S" "$D"
  says "making the dirty map"
  has_state none
  write_at 0 4k
  must_copy_all --incremental
done

for error in 28 5 30; do
  echo "-- a mark cannot be written (error $error)"
  prepare
  copy_all
  echo $error > "$keep/fail"
  write_at 0 4k
  has_state none
  says "writing the dirty map"
  [ ! -e "$dir/dirty-map" ] || fail "the file is there"
  must_copy_all
done

echo "-- nor can it be removed: the record says that it does not hold"
prepare
copy_all
echo 30 > "$keep/fail"
touch "$keep/stay"
write_at 0 4k
says "remove that file before the next start"
wait_for has_state none
says "counts no more"
cp "$dir/dirty-map" "$tmp/old-map"
must_copy_all

echo "-- one that comes back from a backup"
prepare
copy_all
cp "$dir/dirty-map" "$tmp/old-map"
must_migrate --restart --finish=detach "$S" "$D"
write_at 0 4k
crash_bg proxy
cp "$tmp/old-map" "$dir/dirty-map"
start_kept
nbdinfo --size "$S" > "$tmp/size"
has_state none
says "it is of another migration"
must_copy_all --incremental

echo "-- one that was damaged, cut, or is gone, or nobody's"
# shellcheck disable=SC2016 # evaluated below
for damage in 'printf x | dd of="$dir/dirty-map" bs=1 seek=40 conv=notrunc &&
               printf x | dd of="$dir/dirty-map" bs=1 seek=65576 conv=notrunc' \
              'truncate -s 131072 "$dir/dirty-map"' \
              ': > "$dir/dirty-map"' \
              'rm "$dir/dirty-map"' \
              'chmod 666 "$dir/dirty-map"' \
              'rm "$dir/dirty-map"; mkfifo "$dir/dirty-map"'; do
  echo "   $damage"
  prepare
  copy_all
  end_bg proxy
  eval "$damage" 2> "$tmp/damage.log"
  start_kept
  write_at 0 4k
  has_state none
  says "reading the dirty map"
  must_copy_all
done

echo "-- a block of it that was damaged is copied, and no more"
prepare
copy_all
end_bg proxy
printf x | dd of="$dir/dirty-map" bs=1 seek=131172 conv=notrunc 2> "$tmp/dd.log"
start_kept
write_at 0 4k
says "is damaged in 1 places"
[ "$(marked)" -eq "$size" ]
go_on --finish=detach
cmp "$tmp/disks/source" "$tmp/destination"
end_bg proxy
end_bg destination
