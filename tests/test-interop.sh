#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Other people's servers and clients: a pivot from nbdkit's nbd plugin in front
# of qemu-nbd with qcow2 to each kind of destination, under a guest of another
# kind each time, which checks what it reads.  Afterwards the guest's disk and
# the destination are the same.  (QEMU as the guest: test-guest-pivot.)
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd qemu-img qemu-io qemu-storage-daemon fio nbdcopy \
  nbdinfo nbd-server nbdsh
fio --enghelp | grep -w nbd > /dev/null || skip "fio has no nbd engine"
PATH=/usr/bin:$PATH # nbdsh wants the distribution's Python
nbdsh -c 'exit (0)' 2> "$tmp/nbdsh.log" || skip "nbdsh does not run"

size=$((8 * 1024 * 1024))
image=$tmp/image

# ---- destinations ----------------------------------------------------------

# Its URI goes to $destination.
start_destination ()
{
  rm -f "$image" "$tmp/destination.pid"
  truncate -s $size "$image"
  destination=$(uri destination)
  case $1 in
  nbdkit-file) start_nbdkit destination file "$image" ;;
  nbdkit-memory) start_nbdkit destination memory $size ;;
  qemu-nbd-raw)
    start_qemu_nbd destination -e 16 -f raw --discard=unmap "$image" ;;
  qemu-nbd-qcow2-tcp) start_tcp ;;
  storage-daemon) start_storage_daemon ;;
  nbd-server)
      start_nbd_server "$image"
      destination=$nbd_server_uri
      ;;
  loop-device) start_loop_device ;;
  esac
}

is_there_or_gone ()
{
  is_file "$tmp/destination.pid" || has_ended "${pids[destination]}"
}

# A port that is taken is no failure: the next one may be free.
start_tcp ()
{
  local try port

  qemu-img create -q -f qcow2 "$image" $size
  for try in 1 2 3 4 5 6 7 8; do
    port=$((20000 + (seed + try * 977) % 10000))
    start_bg destination qemu-nbd -t -e 16 -b 127.0.0.1 -p $port \
      --pid-file="$tmp/destination.pid" -f qcow2 --discard=unmap "$image"
    wait_for is_there_or_gone
    ! is_file "$tmp/destination.pid" || break
    wait_bg destination || :
  done
  destination=nbd://127.0.0.1:$port
}

start_storage_daemon ()
{
  local file=driver=file,filename=$image,discard=unmap

  start_bg destination qemu-storage-daemon --pidfile "$tmp/destination.pid" \
    --blockdev "$file,node-name=disk" \
    --nbd-server "addr.type=unix,addr.path=$tmp/qsd.sock,max-connections=0" \
    --export type=nbd,id=e,node-name=disk,name=disk,writable=on
  wait_for server_is_up destination
  destination="nbd+unix:///disk?socket=$tmp/qsd.sock"
}

# loop FILE: its device in $loop.  The file goes to a disk.
loop ()
{
  [ -n "${on_disk:-}" ] || use_disk
  mv "$1" "$on_disk/"
  ln -s "$on_disk/$(basename "$1")" "$1"
  loop=$(losetup --find --show "$1")
  at_end "losetup --detach $loop"
}

start_loop_device ()
{
  loop "$image"
  start_qemu_nbd destination -e 16 -f raw --discard=unmap "$loop"
}

stop_destination ()
{
  case $1 in
  nbd-server) stop_nbd_server ;;
  *) end_bg destination ;;
  esac
}

# ---- guests ----------------------------------------------------------------

# Those that end by themselves do so when the file "enough" is there.
start_guest_of_kind ()
{
  rm -f "$tmp/enough" "$tmp/guest.record"
  case $1 in
  referee)
    start_guest guest "$(uri proxy)" --initial any --align 512 \
      "${kinds_for_qcow2[@]}" ;;
  fio)
    start_bg guest fio --name=guest --ioengine=nbd --uri="$(uri proxy)" \
      --rw=randwrite --bsrange=4k-64k --iodepth=16 --size=$size --loops=8 \
      --rate=24M --verify=crc32c --verify_state_save=0 --randseed="$seed" ;;
  qemu-io) start_bg guest bash "$tmp/qemu-io.sh" "$(uri proxy)" ;;
  nbdcopy) start_bg guest bash "$tmp/nbdcopy.sh" "$(uri proxy)" ;;
  nbdsh)
    start_bg guest nbdsh -u "$(uri proxy)" -c "$(cat "$tmp/guest.py")" ;;
  esac
}

cat > "$tmp/qemu-io.sh" <<END
set -e -o pipefail
for ((i = 1; ; i = i % 255 + 1)); do
  [ ! -e "$tmp/enough" ] || break
  at=\$((RANDOM % ($size / 4096) * 4096))
  echo "write -P \$i \$at 4k"
  echo "read -P \$i \$at 4k"
  ((i % 16)) || echo flush
done | qemu-io -f raw "\$1"
END
cat > "$tmp/nbdcopy.sh" <<END
set -e
until [ -e "$tmp/enough" ]; do
  head -c $size /dev/urandom > "$tmp/content"
  nbdcopy --flush "$tmp/content" "\$1"
  nbdcopy "\$1" "$tmp/content.back"
  cmp "$tmp/content" "$tmp/content.back"
done
END
cat > "$tmp/guest.py" <<END
import os, random
random.seed ($seed)
block = 16384
blocks = h.get_size () // block
has = {}
while not os.path.exists ("$tmp/enough"):
    i = random.randrange (blocks)
    if i in has:
        assert h.pread (block, i * block) == has[i]
    what = random.randrange (4)
    has[i] = bytes (block) if what == 0 else random.randbytes (block)
    if what == 0:
        h.zero (block, i * block)
    elif what == 1:
        h.pwrite (has[i], i * block, nbd.CMD_FLAG_FUA)
    else:
        h.pwrite (has[i], i * block)
    if what == 3:
        h.flush ()
for i in has:
    assert h.pread (block, i * block) == has[i]
END

written ()
{
  status .guest.written_bytes
}

# has_written BYTES: in all; a guest that ends by itself may have done it all.
has_written ()
{
  [ "$(written)" -ge "$1" ] && return
  is_running "${pids[guest]}" || fail "the guest ended early"
  return 1
}

stop_guest_of_kind ()
{
  case $1 in
  referee)
    stop_guest guest > "$tmp/guest.report"
    verify_final guest "$destination" ;;
  *)
    touch "$tmp/enough"
    wait_bg guest || fail "$1 ended with exit status $?: $(cat "$tmp/guest.out")"
    ! grep -i 'verification failed\|error' "$tmp/guest.out" ||
      [ "$1" = fio ] || fail "$1 found something wrong" ;;
  esac
}

# ---- together --------------------------------------------------------------

# SOURCE is qcow2 or loop-device.
start_source ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/source"
  if [ "$1" = qcow2 ]; then
    qemu-img create -q -f qcow2 "$tmp/source" $size
    start_qemu_nbd behind -e 16 -f qcow2 --discard=unmap "$tmp/source"
    start_proxy proxy nbd socket="$tmp/behind.sock"
  else
    truncate -s $size "$tmp/source"
    loop "$tmp/source"
    start_proxy proxy file "$loop"
  fi
}

# try SOURCE DESTINATION GUEST
try ()
{
  local before

  echo "-- $1 to $2 under $3"
  start_source "$1"
  start_destination "$2"
  start_guest_of_kind "$3"
  wait_for has_written 200000
  must_migrate "$(uri proxy)" "$destination"
  before=$(written)
  wait_for has_written $((before + 200000))
  stop_guest_of_kind "$3"
  same_content "$(uri proxy)" "$destination"
  end_bg proxy
  [ "$1" != qcow2 ] || end_bg behind
  stop_destination "$2"
}

try qcow2 qemu-nbd-raw fio
try qcow2 qemu-nbd-qcow2-tcp qemu-io
try qcow2 storage-daemon nbdcopy
try qcow2 nbdkit-file nbdsh
try qcow2 nbdkit-memory qemu-io
try qcow2 nbd-server referee
if [ "$(id -u)" -eq 0 ] && losetup --find > "$tmp/losetup.out" 2>&1; then
  try loop-device loop-device referee
fi
