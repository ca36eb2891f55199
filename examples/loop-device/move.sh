#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Move a block device to another while it is in use: see README.md.
#
#   move.sh [BUILD-DIRECTORY]   where make built (default: build, or what is
#                               installed)

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${1:-$top/build}
nbdmigrate=$build/nbdmigrate filter=$build/nbdkit-migrate-filter.so
[ -e "$filter" ] || { nbdmigrate=nbdmigrate filter=migrate; }

for program in "$nbdmigrate" nbdkit fio losetup mkfs.ext4 e2fsck; do
  command -v "$program" > /dev/null || {
    echo "move.sh: $program is not there; see README.md" >&2
    exit 1
  }
done

mebibytes=64
work=$(mktemp -d)
pids=() devices=()

say ()
{
  echo "== $*"
}

clean_up ()
{
  local device pid

  # The guest, the proxy, which flushes, and the server that it flushes to.
  for pid in "${pids[2]:-}" "${pids[1]:-}" "${pids[0]:-}"; do
    [ -n "$pid" ] || continue
    kill "$pid" 2> /dev/null || :
    wait "$pid" 2> /dev/null || :
  done
  mountpoint -q "$work/mnt" && umount "$work/mnt"
  for device in "${devices[@]}"; do
    losetup --detach "$device"
  done
  rm -rf "$work"
}
trap clean_up EXIT

# device FILE: a loop device of that size, in $device.
device ()
{
  truncate -s ${mebibytes}M "$work/$1"
  device=$(losetup --find --show "$work/$1") || exit 77
  devices+=("$device")
}

# serve NAME ARGUMENT...: nbdkit on $work/NAME.sock.
serve ()
{
  local name=$1

  shift
  # Ctrl-C ends them in that order, too.
  setsid nbdkit -f -U "$work/$name.sock" -P "$work/$name.pid" "$@" &
  pids+=($!)
  until [ -s "$work/$name.pid" ]; do
    kill -0 $! 2> /dev/null || exit 1
    sleep 0.05
  done
}

# stop N: of those in the background, and it must end well.
stop ()
{
  kill "${pids[$1]}"
  wait "${pids[$1]}"
  unset "pids[$1]"
}

device source.img && source=$device
device destination.img && destination=$device
uri="nbd+unix:///?socket=$work/proxy.sock"

say "a file system with files on the first half of $source"
mkdir "$work/mnt"
mkfs.ext4 -q "$source" $((mebibytes / 2))M
mount "$source" "$work/mnt"
for i in 1 2 3 4 5 6 7 8; do
  head -c 1M /dev/urandom > "$work/mnt/file$i"
done
(cd "$work/mnt" && sha256sum file*) > "$work/sums"
umount "$work/mnt"

say "the proxy, and a server for $destination"
serve destination file "$destination"
serve proxy --filter="$filter" file "$source" migrate-dir="$work/state"

say "a guest that writes to the second half"
fio --name=guest --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k \
  --iodepth=8 --rate=8M --offset=$((mebibytes / 2))M \
  --size=$((mebibytes / 2))M --verify=crc32c --verify_state_save=0 \
  > "$work/fio.log" 2>&1 &
guest=$!
pids+=("$guest")
until "$nbdmigrate" status "$uri" | grep -q 'writes [1-9]'; do
  kill -0 "$guest" 2> /dev/null || { cat "$work/fio.log"; exit 1; }
  sleep 0.1
done

say "moving $source to $destination"
"$nbdmigrate" "$uri" "nbd+unix:///?socket=$work/destination.sock"
"$nbdmigrate" status "$uri"

say "the guest has noticed nothing, and finds all it wrote"
wait "$guest" || { cat "$work/fio.log"; exit 1; }
unset "pids[2]"

say "the files are on $destination"
stop 1 # the proxy first: a server waits for its clients
stop 0
e2fsck -f -n "$destination"
mount -o ro "$destination" "$work/mnt"
(cd "$work/mnt" && sha256sum --quiet -c "$work/sums")
echo "moved and intact"
