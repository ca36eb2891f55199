# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154 # functions.sh sets them
#
# Booting the guest and talking to it.  Sourced after functions.sh.
#
# Files of the guest NAME, all in $tmp:
#
#   NAME.line.out      what the writer said: RUNNING, ACK ..., its answers
#   NAME.line.in       a pipe to it
#   NAME.console.log   the kernel's console
#   NAME.qmp           QEMU's monitor

guest_disk_mib=192
guest_filler_mib=64

# What the test needs of the machine, and the guest itself.
guest_prepare ()
{
  local status=0

  requires qemu-system-x86_64 mke2fs e2fsck debugfs jq
  "$SRCDIR/tests/guest/build-guest.sh" "$BUILD/guest" || status=$?
  # It has said why.
  [ $status -eq 0 ] || exit $status
}

# guest_make_disk IMAGE: a file system with a file that the guest leaves alone,
# so that there is something to migrate.
guest_make_disk ()
{
  mkdir "$tmp/root"
  head -c "${guest_filler_mib}M" /dev/urandom > "$tmp/root/filler"
  truncate -s "${guest_disk_mib}M" "$1"
  mke2fs -q -t ext4 -d "$tmp/root" "$1"
  mv "$tmp/root/filler" "$tmp/filler"
  rmdir "$tmp/root"
}

# guest_start NAME BLOCKDEV [ARGUMENT...]: boot with the disk BLOCKDEV, options
# of -blockdev driver=nbd; the other arguments are QEMU's.  The array
# guest_prefix goes before the command, guest_device is appended to the disk's
# device.  With guest_vhost_user, a socket, the disk is what is served there by
# vhost-user-blk, and BLOCKDEV is not looked at.  guest_initrd, a file, is unpacked over
# the guest's files; /beside in it, a program, is started before the disk is mounted.
#
# rerror and werror: a disk that fails stops the guest, whose file system never
# hears of it.
#
# The odd size of the RAM: QEMU before 9.0 loses updates of RAM when it migrates
# a guest that it emulates, unless the size is no multiple of 256 KiB.  Clearing
# dirty bits 64 pages at a time, it forgets the emulated TLB ("physmem: Fix
# migration dirty bitmap coherency with TCG memory access"); page by page it
# does not.  Seen as a panic of the guest in one of ten moves.
#
# no_timer_check: while it boots Linux counts the ticks of some milliseconds, and takes
# none for a broken machine; on a busy host the emulated one may get no processor then.
guest_memory=163848k
guest_prefix=()
guest_device=
guest_vhost_user=
guest_initrd=
guest_start ()
{
  local name=$1 blockdev=$2 initrd=$BUILD/guest/initrd disk

  shift 2
  if [ -n "$guest_initrd" ]; then
    # One after the other is an initrd, too.
    cat "$initrd" "$guest_initrd" > "$tmp/$name.initrd"
    initrd=$tmp/$name.initrd
  fi
  if [ -n "$guest_vhost_user" ]; then
    disk=(-object "memory-backend-memfd,id=ram,size=$guest_memory,share=on"
      -machine memory-backend=ram
      -chardev "socket,id=disk,path=$guest_vhost_user"
      -device "vhost-user-blk-pci,chardev=disk")
  else
    disk=(-blockdev "driver=nbd,node-name=disk,discard=unmap,$blockdev"
      -device "virtio-blk-pci,drive=disk,rerror=stop,werror=stop$guest_device")
  fi
  mkfifo "$tmp/$name.line.in"
  : > "$tmp/$name.line.out"
  start_bg "$name" "${guest_prefix[@]}" qemu-system-x86_64 \
    -accel tcg -machine pc -nodefaults -display none \
    -m $guest_memory -no-reboot \
    -kernel "$BUILD/guest/vmlinuz" -initrd "$initrd" \
    -append "console=ttyS0 quiet panic=-1 no_timer_check writer_pause_ms=5" \
    -chardev "file,id=console,path=$tmp/$name.console.log" \
    -serial chardev:console \
    -chardev "pipe,id=line,path=$tmp/$name.line" -serial chardev:line \
    "${disk[@]}" \
    -qmp "unix:$tmp/$name.qmp,server=on,wait=off" "$@"
}

# ---- what it said ----------------------------------------------------------

guest_acks ()
{
  grep -c '^ACK' "$tmp/$1.line.out" || :
}

# guest_has_acked NAME N: whether it has N acknowledged writes now.
guest_has_acked ()
{
  (($(guest_acks "$1") >= $2)) && return
  guest_is_well "$1"
  return 1
}

# guest_works NAME [N]: the guest does N more writes.
guest_works ()
{
  WAIT_SECONDS=60 wait_for guest_has_acked "$1" \
    $(($(guest_acks "$1") + ${2:-20}))
}

# The writer says WRONG, the kernel's complaints come after KERNEL.
guest_is_well ()
{
  if grep -a '^WRONG\|^KERNEL' "$tmp/$1.line.out" ||
       grep -a -i 'error\|panic' "$tmp/$1.console.log" 2> /dev/null; then
    fail "the guest $1 is not well"
  fi
}

guest_answers ()
{
  grep -c "^$2" "$tmp/$1.line.out" || :
}

guest_has_answered ()
{
  (($(guest_answers "$1" "$2") >= $3)) && return
  guest_is_well "$1"
  is_running "${pids[$1]}" || fail "the guest $1 has ended"
  return 1
}

# guest_ask NAME COMMAND ANSWER: prints the answer.  Opened for reading, too:
# a pipe without a reader would block.
guest_ask ()
{
  local n

  n=$(guest_answers "$1" "$3")
  echo "$2" 1<> "$tmp/$1.line.in"
  WAIT_SECONDS=60 wait_for guest_has_answered "$1" "$3" $((n + 1))
  grep "^$3" "$tmp/$1.line.out" | tail -n 1
}

# Everything written so far reads back right, from the disk.
guest_verify ()
{
  guest_ask "$1" VERIFY VERIFIED
}

# guest_latency NAME: microseconds of the longest write since the last time.
guest_latency ()
{
  guest_ask "$1" LATENCY LATENCY | cut -d ' ' -f 2
}

# The guest verifies, unmounts and powers itself off; nothing was wrong.
guest_stop ()
{
  echo STOP 1<> "$tmp/$1.line.in"
  WAIT_SECONDS=60 wait_bg "$1" || fail "QEMU of $1 ended badly"
  guest_is_well "$1"
  grep '^UNMOUNTED' "$tmp/$1.line.out" || fail "$1 did not unmount its disk"
  grep -q '^POWEROFF' "$tmp/$1.line.out" || fail "$1 did not power off"
}

# ---- verdict ---------------------------------------------------------------

# guest_check_disk IMAGE NAME...: a clean file system with everything that the
# guest under these names, one after the other, was told is on disk.
guest_check_disk ()
{
  local image=$1 files=$tmp/files name logs=()

  shift
  for name; do
    logs+=("$tmp/$name.line.out")
  done
  e2fsck -fn "$image" || fail "$image: e2fsck found something"
  rm -rf "$files"
  mkdir "$files"
  debugfs -R "rdump / $files" "$image" 2>&1
  cmp "$tmp/filler" "$files/filler" || fail "$image: the filler has changed"
  "$BUILD/guest/writer" check "$files" "${logs[@]}" ||
    fail "$image does not hold what the guest wrote"
  rm -rf "$files"
}
