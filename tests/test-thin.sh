#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Thin stays thin: what is a hole in the source occupies nothing on the
# destination, a guest's trim ends as a hole, and zeroes cost no bytes on the
# wire, whether or not the source can tell where its holes are.  A destination
# that held other things reads as zero there afterwards, and
# --destination-is-zero covers nothing that may have been written before, also
# when the proxy was started again (R18).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq qemu-img qemu-io

RANDOM=$((seed % 32768))
MiB=$((1024 * 1024))
chunk=65536

# same_files FILE FILE: reads only what is allocated.
same_files ()
{
  qemu-img compare -q -f raw -F raw "$1" "$2" || fail "$1 and $2 differ"
}

# The number of data extents of a file, and their bytes.
extents_of ()
{
  qemu-img map -f raw --output=json "$1" | jq 'map(select(.data)) | length'
}

# thin_as SOURCE DESTINATION: within a chunk for each extent.
thin_as ()
{
  local a b n

  a=$(allocated_bytes "$1") b=$(allocated_bytes "$2") n=$(extents_of "$1")
  echo "$n extents; allocated: $a bytes, copy: $b bytes"
  ((b - a <= n * chunk && a - b <= n * chunk)) ||
    fail "the copy is not as thin as the source"
}

punched=$(truncate -s 1M "$tmp/probe" && echo x >> "$tmp/probe" &&
  allocated_bytes "$tmp/probe")
((punched < MiB)) || skip "the file system has no holes"

# ---- a large sparse file ---------------------------------------------------

size=$((100 * 1024 * MiB))
n=48

# Extents of any length that begin anywhere, the last at the disk's end.
truncate -s $size "$tmp/source"
for ((i = 0; i < n; i++)); do
  blocks=$((1 + RANDOM % 1024))
  first=$((i * (size / n / 4096) + RANDOM))
  ((i < n - 1)) || first=$((size / 4096 - blocks))
  dd if=/dev/urandom of="$tmp/source" bs=4096 seek=$first count=$blocks \
    conv=notrunc status=none
done

for more in "" --destination-is-zero; do
  echo "-- 100 GiB, sparse ${more}"
  rm -rf "$tmp/destination" "$tmp/proxy.dir"
  truncate -s $size "$tmp/destination"
  start_proxy proxy file "$tmp/source" migrate-chunk=$chunk
  start_nbdkit destination --filter=log file "$tmp/destination" \
    logfile="$tmp/requests"
  # shellcheck disable=SC2086 # it may be empty
  must_migrate --finish=detach $more "$(uri proxy)" "$(uri destination)"
  end_bg proxy
  end_bg destination
  same_files "$tmp/source" "$tmp/destination"
  thin_as "$tmp/source" "$tmp/destination"
  sent=$(wire_bytes "$tmp/requests")
  ((sent <= $(allocated_bytes "$tmp/source") + n * 2 * chunk)) ||
    fail "$sent bytes were sent"
  echo "$(completed duration_ms) ms"
  rm "$tmp/requests"
done
rm -r "$tmp/source" "$tmp/destination" "$tmp/proxy.dir"

# ---- trims and zeroes of the guest -----------------------------------------

# is_hole FILE OFFSET LENGTH
is_hole ()
{
  qemu-img map -f raw --output=json "$1" |
    jq -e "map(select(.data and .start < $2 + $3 and
                      .start + .length > $2)) == []" > "$tmp/map.out"
}

guest ()
{
  qemu-io -f raw -d unmap "$@" "$(uri proxy)" > "$tmp/qemu-io.out"
}

# Everything that was written so far has been copied.
in_sync ()
{
  has_status "$(uri proxy)" '.remaining_bytes == 0 and .unflushed_bytes == 0'
}

echo "-- a guest trims and writes zeroes meanwhile"
size=$((32 * MiB))
truncate -s $size "$tmp/source" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination --filter=log file "$tmp/destination" \
  logfile="$tmp/requests"
fill "$(uri proxy)" 100
start_migrate --finish=detach --wait "$(uri proxy)" "$(uri destination)"
wait_for is_ready
sent=$(wire_bytes "$tmp/requests")
[ "$sent" -eq $((size + 4096)) ] # with a mark, whose place was zero before
guest -c "discard 4M 8M" -c "write -z 16M 4M" -c "write -zu 20M 4M" \
  -c "write -P 0 24M 4M"
wait_for in_sync
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
[ "$(wire_bytes "$tmp/requests")" -eq "$sent" ] ||
  fail "zeroes were sent over the wire"
[ "$(completed zeroed_bytes)" -ge $((20 * MiB)) ]
end_bg proxy
end_bg destination
same_files "$tmp/source" "$tmp/destination"
is_hole "$tmp/destination" $((4 * MiB)) $((8 * MiB)) ||
  fail "what the guest trimmed is no hole"
is_hole "$tmp/destination" $((20 * MiB)) $((8 * MiB)) ||
  fail "what the guest zeroed is no hole"

# ---- sources and destinations that cannot do much --------------------------

# A third of the source is data.
rm -rf "$tmp/proxy.dir" "$tmp/source" "$tmp/requests"
truncate -s $size "$tmp/source"
start_nbdkit source file "$tmp/source"
fill "$(uri source)" 33
end_bg source
data=$(qemu-img map -f raw --output=json "$tmp/source" |
         jq 'map(select(.data).length) | add')

# try FULL WHAT SOURCE-FILTERS -- DESTINATION-FILTERS PARAMETERS: to a file of
# which so much is full of data.
try ()
{
  local source_filters=() full=$1

  echo "-- $2"
  shift 2
  while [ "$1" != -- ]; do
    source_filters+=("$1")
    shift
  done
  shift
  rm -rf "$tmp/proxy.dir" "$tmp/destination" "$tmp/requests"
  head -c "$full" /dev/urandom > "$tmp/destination"
  truncate -s $size "$tmp/destination"
  start_proxy proxy "${source_filters[@]}" file "$tmp/source"
  start_nbdkit destination --filter=log "${1:---filter=nofilter}" \
    file "$tmp/destination" logfile="$tmp/requests" "${@:2}"
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  end_bg proxy
  end_bg destination
  cmp "$tmp/source" "$tmp/destination"
}

try 0 "no extents: zeroes are found in the data" --filter=noextents --
thin_as "$tmp/source" "$tmp/destination"
[ "$(copied_bytes "$tmp/requests")" -eq "$data" ]
try $size "a destination full of other things" --
thin_as "$tmp/source" "$tmp/destination"
[ "$(copied_bytes "$tmp/requests")" -eq "$data" ]
try $size "neither extents, nor zeroing at the destination" \
  --filter=noextents -- --filter=nozero zeromode=none

# ---- chunks of any length --------------------------------------------------

# Where a hole ends inside a chunk, a part of that is copied, and a part is
# not; the guest writes and trims everywhere meanwhile, and the first migrator
# is killed.
for chunk in 4K 1M 64M; do
  echo "-- chunks of $chunk"
  rm -rf "$tmp/proxy.dir" "$tmp/source" "$tmp/destination" "$tmp/guest.record"
  truncate -s $size "$tmp/source" "$tmp/destination"
  start_proxy proxy file "$tmp/source" migrate-chunk=$chunk
  start_nbdkit destination file "$tmp/destination"
  fill "$(uri proxy)" 20
  start_guest guest "$(uri proxy)" --initial "$pattern" --rate 2M --cells 1024
  start_migrate --finish=detach --rate=6M "$(uri proxy)" "$(uri destination)"
  wait_for has_status "$(uri proxy)" \
    '.leased_bytes > 0 and .progress.copied_bytes > 0'
  crash_bg migrator
  # Where one chunk is the disk any write makes all of it dirty: the pause is as
  # long as copying that takes, however busy the machine is.
  must_migrate --finish=detach --max-pause=5s "$(uri proxy)" \
    "$(uri destination)"
  guest_goes_on guest
  verify_cut guest "$(uri destination)"
  stop_guest guest
  verify_final guest "$(uri proxy)"
  end_bg proxy
  end_bg destination
done

# ---- R18 -------------------------------------------------------------------

# interrupted: a copy to a destination of zeroes that was killed when some of
# it had been written.
interrupted ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/destination" "$tmp/requests"
  truncate -s $size "$tmp/destination"
  start_proxy proxy file "$tmp/source"
  start_nbdkit destination --filter=log file "$tmp/destination" \
    logfile="$tmp/requests"
  fill "$(uri proxy)" 100
  start_migrate --finish=detach --destination-is-zero --rate=16M \
    "$(uri proxy)" "$(uri destination)"
  wait_for has_written $((2 * MiB))
  crash_bg migrator
}

has_written ()
{
  (($(wire_bytes "$tmp/requests") >= $1))
}

for how in "goes on" "is started again" "crashes and is started again"; do
  echo "-- copied, killed, trimmed, and the proxy $how"
  interrupted
  guest -c "discard 0 $size"
  case $how in
  *crashes*) crash_bg proxy ;;
  *started*) end_bg proxy ;;
  esac
  [ -n "${pids[proxy]:-}" ] || start_proxy proxy file "$tmp/source"
  must_migrate --finish=detach --destination-is-zero "$(uri proxy)" \
    "$(uri destination)"
  end_bg proxy
  end_bg destination
  cmp "$tmp/source" "$tmp/destination"
  [ "$(extents_of "$tmp/destination")" -eq 0 ] || fail "it is not thin"
done
