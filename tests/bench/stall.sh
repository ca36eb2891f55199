#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# stall.sh: the longest write of a busy guest from the start of a migration to
# its end, against blockdev-mirror and job-complete of qemu-storage-daemon.
#
#   ROUNDS=N (default 3)      STALL_SIZE=SIZE (default 256M)

set -euo pipefail

TMPDIR=${TMPDIR:-/var/tmp}
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
# shellcheck source=tests/bench/fio.sh
source "$SRCDIR/tests/bench/fio.sh"

requires qemu-storage-daemon
rounds=${ROUNDS:-3} stall_size=${STALL_SIZE:-256M}

# start_busy_guest URI: in the background.
start_busy_guest ()
{
  touch "$tmp/begun"
  start_bg busy fio --name=guest --ioengine=nbd --uri="$1" \
    --rw=randwrite --bs=4k --iodepth=4 --size="$stall_size" --norandommap \
    --rate=8M --time_based --runtime=3600 --randseed="$seed" \
    --output-format=json
}

# stop_busy_guest: its longest write in $stall.
stop_busy_guest ()
{
  kill_bg busy INT
  wait_bg busy || :
  stall=$(sed -n '/^{/,$p' "$tmp/busy.out" |
            jq '.jobs[0].write.clat_ns.max / 1e6')
}

# A dense source disk and an empty destination.
start_stall ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/copy" "$tmp/proxy.sock"
  truncate -s "$stall_size" "$tmp/source" "$tmp/copy"
  start_nbdkit filler file "$tmp/source"
  fill "$(uri filler)" 100 > "$tmp/fill.out"
  end_bg filler
  start_nbdkit destination file "$tmp/copy"
}

stall_nbdmigrate ()
{
  start_stall
  start_proxy proxy file "$tmp/source"
  start_busy_guest "$(uri proxy)"
  wait_for busy_writes
  must_migrate "$(uri proxy)" "$(uri destination)"
  sleep 0.3 # what comes after it belongs to it
  stop_busy_guest
  end_bg proxy
  end_bg destination
}

busy_writes ()
{
  is_running "${pids[busy]}" || fail "fio ended"
  [ "$tmp/source" -nt "$tmp/begun" ]
}

stall_storage_daemon ()
{
  start_stall
  rm -f "$tmp/qmp" "$tmp/proxy.pid"
  start_bg proxy qemu-storage-daemon --pidfile "$tmp/proxy.pid" \
    --blockdev "driver=file,filename=$tmp/source,node-name=source" \
    --blockdev "driver=nbd,server.type=unix,server.path=$tmp/destination.sock,node-name=copy" \
    --nbd-server "addr.type=unix,addr.path=$tmp/proxy.sock,max-connections=0" \
    --export type=nbd,id=e,node-name=source,name=,writable=on \
    --chardev "socket,id=c,path=$tmp/qmp,server=on,wait=off" \
    --monitor chardev=c
  wait_for server_is_up proxy
  start_busy_guest "$(uri proxy)"
  wait_for busy_writes
  /usr/bin/python3 "$SRCDIR/tests/bench/mirror.py" "$tmp/qmp" background
  sleep 0.3
  stop_busy_guest
  end_bg proxy
  end_bg destination
}

bench_stall ()
{
  local ours='' theirs='' i

  echo "== a dense disk of $stall_size is moved under 8 MiB/s of random 4 KiB" \
    "writes: the guest's longest write, ms"
  for ((i = 0; i < rounds; i++)); do
    stall_nbdmigrate
    ours+=" $(calculate "$stall")"
    stall_storage_daemon
    theirs+=" $(calculate "$stall")"
  done
  # shellcheck disable=SC2086 # numbers
  printf '%-20s %s   (median %s)\n' nbdmigrate "$ours" "$(median $ours)" \
    qemu-storage-daemon "$theirs" "$(median $theirs)"
  echo "median ratio $(median_ratio "$ours" "$theirs")"
}

bench_stall
