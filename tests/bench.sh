#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# bench.sh [guest] [relay] [copy] [pause] [stall]: figures, side by side with what else
# there is.  It prints, and judges nothing: absolute figures drift, so what is
# compared runs in turn, and the median of the ratios of the rounds counts.
#
#   guest  guest requests of 4 KiB through a proxy, when nothing is moved and
#          while changes are tracked, against plain nbdkit
#   relay  guest IOPS and bandwidth after a pivot, against `nbdkit nbd`
#   copy   an idle dense disk, against nbdcopy with and without --flush
#   pause  the longest write of an idle guest in the pause of a pivot, less a
#          usual one
#   stall  the longest write of a busy guest from the start of a migration to
#          its end, against blockdev-mirror and job-complete of
#          qemu-storage-daemon
#
#   ROUNDS=N       (default 5; copy and stall: 3)
#   COPY_SIZE=SIZE (default 2G)      STALL_SIZE=SIZE (default 256M)
#   BENCH_DIR=DIR  where the disks are (default /var/tmp)

set -euo pipefail

TMPDIR=${BENCH_DIR:-/var/tmp}
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
requires nbdkit jq fio nbdcopy

seconds=1.5 # of one measurement

# ---- arithmetic ------------------------------------------------------------

# calculate EXPRESSION, with two decimals
calculate ()
{
  awk "BEGIN { printf \"%.2f\", $1 }"
}

# ratios LIST LIST: of the numbers of two lists, in order.
ratios ()
{
  local a b i

  read -r -a a <<< "$1"
  read -r -a b <<< "$2"
  for i in "${!a[@]}"; do
    calculate "${a[i]} / ${b[i]}"
    echo
  done
}

# median_ratio LIST LIST
median_ratio ()
{
  # shellcheck disable=SC2046 # numbers
  median $(ratios "$1" "$2")
}

# ---- fio -------------------------------------------------------------------

# fio_on URI ARGUMENT...: its first job's result, as JSON.
fio_on ()
{
  local uri=$1

  shift
  fio --name=guest --ioengine=nbd --uri="$uri" --norandommap --time_based \
    --runtime="$seconds" --randseed="$seed" --output-format=json "$@" |
    sed -n '/^{/,$p' | jq '.jobs[0]'
}

ms_of_longest_write='.write.clat_ns.max / 1e6'

# ratio_range LIST LIST: the median, the smallest and the largest.
ratio_range ()
{
  local all

  all=$(ratios "$1" "$2" | sort -g)
  # shellcheck disable=SC2086 # numbers
  echo "$(median $all) ($(head -n 1 <<< "$all") to $(tail -n 1 <<< "$all"))"
}

# ---- guest -----------------------------------------------------------------

# guest_iops NAME KIND DEPTH CONNECTIONS: the depth is that of each connection.
guest_iops ()
{
  fio_on "$(uri "$1")" --rw="$2" --bs=4k --iodepth="$3" --numjobs="$4" \
    --group_reporting --size=256M | jq '.read.iops + .write.iops'
}

# A migration that was interrupted leaves the tracking on, and nothing that
# copies.
start_tracking ()
{
  start_nbdkit destination memory 256M
  start_migrate --wait "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
  end_bg destination
  must_have_status "$(uri proxy)" '.tracking'
}

bench_guest ()
{
  local kind depth jobs i plain idle tracking

  echo "== guest requests of 4 KiB through a proxy, against plain nbdkit memory"
  start_nbdkit plain memory 256M
  start_proxy idle memory 256M
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy memory 256M
  start_tracking
  for i in plain idle proxy; do
    fill "$(uri $i)" 100 > "$tmp/fill.out"
  done
  printf '%-10s %5s %11s %9s  %-26s %s\n' kind depth connections plain \
    'idle : plain (range)' 'tracking : plain (range)'
  for kind in randread randwrite; do
    for depth in 1 16; do
      for jobs in 1 2; do
        plain='' idle='' tracking=''
        for ((i = 0; i < rounds; i++)); do
          plain+=" $(guest_iops plain $kind $depth $jobs)"
          idle+=" $(guest_iops idle $kind $depth $jobs)"
          tracking+=" $(guest_iops proxy $kind $depth $jobs)"
        done
        # shellcheck disable=SC2086 # numbers
        printf '%-10s %5s %11s %9.0f  %-26s %s\n' $kind $depth $jobs \
          "$(median $plain)" "$(ratio_range "$idle" "$plain")" \
          "$(ratio_range "$tracking" "$plain")"
      done
    done
  done
  end_bg proxy
  end_bg idle
  end_bg plain
}

# ---- relay -----------------------------------------------------------------

# workload URI KIND
workload ()
{
  case $2 in
  randwrite | randread)
    fio_on "$1" --rw="$2" --bs=4k --iodepth=16 --size=256M ;;
  write | read)
    fio_on "$1" --rw="$2" --bs=1M --iodepth=4 --size=256M ;;
  esac
}

bench_relay ()
{
  local kind i ours theirs direct unit

  echo "== after a pivot, against nbdkit nbd, to the same nbdkit memory"
  start_nbdkit destination memory 256M
  start_nbdkit relay nbd socket="$tmp/destination.sock"
  start_proxy proxy memory 256M
  must_migrate "$(uri proxy)" "$(uri destination)"
  fill "$(uri destination)" 100 > "$tmp/fill.out"
  printf '%-12s %10s %10s %10s  %s\n' workload pivot 'nbdkit nbd' direct \
    "median of $rounds ratios pivot : nbdkit nbd"
  for kind in randwrite randread write read; do
    unit='.read.iops + .write.iops'
    ours='' theirs='' direct=''
    for ((i = 0; i < rounds; i++)); do
      ours+=" $(workload "$(uri proxy)" $kind | jq "$unit")"
      theirs+=" $(workload "$(uri relay)" $kind | jq "$unit")"
    done
    direct=$(workload "$(uri destination)" $kind | jq "$unit")
    # shellcheck disable=SC2086 # numbers
    printf '%-12s %10.0f %10.0f %10.0f  %s\n' $kind "$(median $ours)" \
      "$(median $theirs)" "$direct" "$(median_ratio "$ours" "$theirs")"
  done
  echo "(requests per second: 4 KiB at depth 16, or 1 MiB at depth 4)"
  end_bg proxy
  end_bg relay
  end_bg destination
}

# ---- copy ------------------------------------------------------------------

# timed COMMAND...: how many seconds it takes; the destination is new.
timed ()
{
  local begin end

  rm -f "$tmp/copy"
  truncate -s "$copy_size" "$tmp/copy"
  start_nbdkit destination file "$tmp/copy"
  begin=$(date +%s.%N)
  "$@" > "$tmp/copy.out" 2> "$tmp/copy.log"
  end=$(date +%s.%N)
  end_bg destination
  timed=$(calculate "$end - $begin")
}

bench_copy ()
{
  local ours='' plain='' flushed='' i mib

  echo "== copy of an idle dense disk of $copy_size, seconds"
  rm -rf "$tmp/proxy.dir"
  truncate -s "$copy_size" "$tmp/source"
  start_nbdkit filler file "$tmp/source"
  fill "$(uri filler)" 100 > "$tmp/fill.out"
  end_bg filler
  start_proxy proxy file "$tmp/source"
  nbdcopy "$(uri proxy)" null: # from here on it is in memory
  for ((i = 0; i < few_rounds; i++)); do
    timed "$nbdmigrate" --restart --finish=detach "$(uri proxy)" \
      "$(uri destination)"
    ours+=" $timed"
    timed nbdcopy "$(uri proxy)" "$(uri destination)"
    plain+=" $timed"
    timed nbdcopy --flush "$(uri proxy)" "$(uri destination)"
    flushed+=" $timed"
  done
  mib=$(stat -c %s "$tmp/source")
  # shellcheck disable=SC2086 # numbers
  for i in "nbdmigrate:$ours" "nbdcopy:$plain" "nbdcopy --flush:$flushed"; do
    printf '%-16s %s   (median %.0f MiB/s)\n' "${i%%:*}" "${i#*:}" \
      "$(calculate "$mib / 1048576 / $(median ${i#*:})")"
  done
  echo "median ratio nbdmigrate : nbdcopy         $(median_ratio "$ours" "$plain")"
  echo "median ratio nbdmigrate : nbdcopy --flush $(median_ratio "$ours" "$flushed")"
  end_bg proxy
  rm -f "$tmp/source" "$tmp/copy"
}

# ---- pause -----------------------------------------------------------------

# light_guest NAME: one write after the other; how long each of them took, with
# its end in milliseconds since the epoch, goes to $tmp/NAME_clat.1.log.
light_guest ()
{
  fio_on "$(uri proxy)" --rw=write --bs=4k --iodepth=1 --size=64k \
    --rate_iops=500 --log_unix_epoch=1 --write_lat_log="$tmp/$1" > "$tmp/$1.out"
}

# The median of all writes, in milliseconds.
typical_write ()
{
  # shellcheck disable=SC2046 # numbers
  calculate "$(median $(cut -d, -f2 "$tmp/$1_clat.1.log")) / 1e6"
}

# The longest of those that were under way in the pause.
longest_in_pause ()
{
  local begin end

  read -r begin end < <(event 'map(select(.event == "pause")) | last |
    "\(.begin_time * 1000 | floor) \(.end_time * 1000 | ceil)"')
  awk -F, -v begin="$begin" -v end="$end" '
    $1 >= begin && $1 - $2 / 1e6 <= end + 1 && $2 > longest { longest = $2 }
    END { printf "%.2f", longest / 1e6 }' "$tmp/$1_clat.1.log"
}

bench_pause ()
{
  local i quiet pivot difference='' gates=''

  echo "== pivot under a guest that writes the same 64 KiB, 500 times a second"
  for ((i = 0; i < rounds; i++)); do
    rm -rf "$tmp/proxy.dir" "$tmp"/*_clat.1.log
    truncate -s 64M "$tmp/source" "$tmp/copy"
    start_proxy proxy file "$tmp/source"
    start_nbdkit destination file "$tmp/copy"
    light_guest quiet
    start_migrate --wait "$(uri proxy)" "$(uri destination)"
    wait_for is_ready
    writes_before=$(guest_writes)
    light_guest pivot & # waited for below
    wait_for guest_is_at_work
    "$nbdmigrate" finish "$(uri proxy)"
    wait_bg migrator
    wait $!
    quiet=$(typical_write quiet)
    pivot=$(longest_in_pause pivot)
    difference+=" $(calculate "$pivot - $quiet")"
    gates+=" $(calculate "$(completed pause_ms)")"
    echo "in quiet time $quiet ms, in the pause up to $pivot ms"
    end_bg proxy
    end_bg destination
  done
  # shellcheck disable=SC2086 # numbers
  echo "median of the differences $(median $difference) ms;" \
    "of what nbdmigrate says $(median $gates) ms"
}

guest_writes ()
{
  status .guest.writes
}

guest_is_at_work ()
{
  [ "$(guest_writes)" -gt $((writes_before + 20)) ]
}

# ---- stall -----------------------------------------------------------------

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
            jq ".jobs[0] | $ms_of_longest_write")
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

cat > "$tmp/mirror.py" <<'END'
import json, socket, sys

def command (name, **arguments):
    f.write (json.dumps ({"execute": name, "arguments": arguments}) + "\n")
    f.flush ()
    while True:
        answer = json.loads (f.readline ())
        if "error" in answer:
            sys.exit (str (answer))
        if "return" in answer:
            return
        events.append (answer.get ("event"))

def wait_for (event):
    while event not in events:
        events.append (json.loads (f.readline ()).get ("event"))

events = []
s = socket.socket (socket.AF_UNIX)
s.connect (sys.argv[1])
f = s.makefile ("rw")
f.readline ()
command ("qmp_capabilities")
command ("blockdev-mirror", **{"job-id": "j", "device": "source",
                               "target": "copy", "sync": "full"})
wait_for ("BLOCK_JOB_READY")
command ("job-complete", id="j")
wait_for ("BLOCK_JOB_COMPLETED")
END

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
  /usr/bin/python3 "$tmp/mirror.py" "$tmp/qmp"
  sleep 0.3
  stop_busy_guest
  end_bg proxy
  end_bg destination
}

bench_stall ()
{
  local ours='' theirs='' i

  requires qemu-storage-daemon
  echo "== a dense disk of $stall_size is moved under 8 MiB/s of random 4 KiB" \
    "writes: the guest's longest write, ms"
  for ((i = 0; i < few_rounds; i++)); do
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

# ---- all of it -------------------------------------------------------------

rounds=${ROUNDS:-5} few_rounds=${ROUNDS:-3}
copy_size=${COPY_SIZE:-2G} stall_size=${STALL_SIZE:-256M}
[ $# -gt 0 ] || set -- guest relay copy pause stall
for section; do
  SECONDS=0
  "bench_$section"
  echo "($SECONDS s)"
done
