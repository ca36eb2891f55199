#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# docs/recipes.md, "A VMM that takes a file or a block device": the proxy's disk as a
# file by nbdfuse, as a loop device on it, and a file system on that.  Files are written
# and synced there all the time; the pivot is not noticed, and what was synced is at the
# destination.  A proxy that is killed is an I/O error there, never a lie; what was
# synced is found when all is mounted anew.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
PATH=$PATH:/usr/sbin:/sbin
requires nbdkit jq nbdfuse losetup mkfs.ext4 e2fsck sha256sum
requires_root
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
use_disk

size=$((64 * 1024 * 1024))
mkdir "$tmp/fuse" "$tmp/mnt"
device=
at_end take_down

# Whatever of it is there, last to first.
take_down ()
{
  ! is_mounted "$tmp/mnt" || umount "$tmp/mnt" || umount -l "$tmp/mnt"
  if [ -n "$device" ]; then
    losetup --detach "$device" || :
    wait_for is_detached
    device=
  fi
  ! is_mounted "$tmp/fuse" || umount "$tmp/fuse" || umount -l "$tmp/fuse"
}

# Also if nobody answers there any more, which mountpoint(1) takes for no mount.
is_mounted ()
{
  grep -qF " $1 " /proc/mounts
}

is_detached ()
{
  ! losetup "$device" > /dev/null 2>&1
}

fuse_is_up ()
{
  [ -s "$tmp/fuse.pid" ] && return
  is_running "${pids[fuse]}" && return 1
  ! grep -qiE 'mount failed|device not found' "$tmp/fuse.log" ||
    skip "FUSE cannot be had: $(cat "$tmp/fuse.log")"
  fail "nbdfuse did not start"
}

# set_up: the disk as $device.
set_up ()
{
  rm -f "$tmp/fuse.pid"
  start_bg fuse nbdfuse -P "$tmp/fuse.pid" "$tmp/fuse/vm1" "$(uri proxy)"
  wait_for fuse_is_up
  device=$(losetup --find --show "$tmp/fuse/vm1" 2> "$tmp/losetup.log") ||
    skip "no loop device can be had: $(cat "$tmp/losetup.log")"
}

# The guest: file after file is written and synced; what was is recorded.
guest ()
{
  local i sum

  i=$(wc -l < "$tmp/synced")
  while [ ! -e "$tmp/stop" ]; do
    i=$((i + 1))
    head -c $((i * 7919 % 8192 + 1)) /dev/urandom > "$tmp/next"
    sum=$(sha256sum < "$tmp/next")
    dd if="$tmp/next" of="$tmp/mnt/$i" conv=fsync status=none || return 1
    echo "${sum%% *}  $i" >> "$tmp/synced"
  done
}

start_files ()
{
  rm -f "$tmp/stop"
  tmp=$tmp start_bg guest bash -c "$(declare -f guest); guest"
  files_go_on
}

has_files ()
{
  (($(wc -l < "$tmp/synced") >= $1)) && return
  is_running "${pids[guest]}" || fail "no file can be written: $(cat "$tmp/guest.log")"
  return 1
}

files_go_on ()
{
  wait_for has_files $(($(wc -l < "$tmp/synced") + 20))
}

all_files ()
{
  (cd "$1" && sha256sum --quiet -c "$tmp/synced") || fail "files are lost"
}

truncate -s $size "$on_disk/source" "$on_disk/destination"
start_proxy proxy file "$on_disk/source"
start_nbdkit destination --filter=log file "$on_disk/destination" \
  logfile="$tmp/requests"
: > "$tmp/synced"
set_up
[ "$(stat -c %s "$tmp/fuse/vm1")" -eq $size ]
mkfs.ext4 -q "$device"
mount "$device" "$tmp/mnt"
start_files

echo "-- a pivot under it"
must_migrate --finish=pivot "$(uri proxy)" "$(uri destination)"
flushes=$(grep -c ' Flush id=' "$tmp/requests")
files_go_on
(($(grep -c ' Flush id=' "$tmp/requests") > flushes)) ||
  fail "what the guest syncs is not flushed at the destination"
: > "$tmp/stop"
wait_bg guest || fail "a file could not be written: $(cat "$tmp/guest.log")"
all_files "$tmp/mnt"

echo "-- the proxy is killed"
start_files
crash_bg proxy
! wait_bg guest || fail "files were synced without a disk"
take_down
wait_bg fuse || :

echo "-- and all is mounted anew"
start_proxy proxy file "$on_disk/source"
set_up
mount "$device" "$tmp/mnt"
all_files "$tmp/mnt"
start_files
: > "$tmp/stop"
wait_bg guest || fail "a file could not be written: $(cat "$tmp/guest.log")"
take_down
wait_bg fuse || fail "nbdfuse ended with exit status $?"
end_bg proxy
end_bg destination

echo "-- the destination"
e2fsck -fn "$on_disk/destination" || fail "e2fsck found something"
device=$(losetup --find --show "$on_disk/destination")
mount -o ro "$device" "$tmp/mnt"
all_files "$tmp/mnt"
echo "$(wc -l < "$tmp/synced") files were synced"
