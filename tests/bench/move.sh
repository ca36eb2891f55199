# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# One move of a disk under a guest, by nbdmigrate or by a rival, to a file
# behind nbdkit: what the parts pause and converge measure.  Sourced; what it
# sources needs SRCDIR and BUILD.
#
#   nbdmigrate              a pivot; the guest is at nbdkit with our filter
#   mirror                  the guest is at qemu-storage-daemon, which opens the
#                           file itself; blockdev-mirror, then job-complete
#   mirror-write-blocking   the same with that copy-mode
#
# The guest times its own requests (tests/tools/guest-load), and in the end all
# blocks of the destination are looked at.
#
# OPTIONS='...' are more options of nbdmigrate.

TMPDIR=${BENCH_DIR:-/dev/shm}
[ -d "$TMPDIR" ] || TMPDIR=/var/tmp
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/bench/loads.sh
source "$SRCDIR/tests/bench/loads.sh"
# shellcheck source=tests/bench/shuffle.sh
source "$SRCDIR/tests/bench/shuffle.sh"
requires nbdkit jq

# What comes so many seconds after a cut-over belongs to it.
aftermath=0.05

# prepare_disk SIZE: $disk_bytes
prepare_disk ()
{
  truncate -s "$1" "$tmp/source"
  disk_bytes=$(stat -c %s "$tmp/source")
  "$BUILD/tests/guest-load" fill "$tmp/source"
}

# installed PROGRAM...: in "$programs", those that can run.
installed ()
{
  local p

  programs=()
  for p; do
    if [ "$p" != nbdmigrate ] && ! command -v qemu-storage-daemon > /dev/null; then
      echo "SKIP: $p: there is no qemu-storage-daemon"
    else
      programs+=("$p")
    fi
  done
}

# start_mover PROGRAM: what serves the guest.
start_mover ()
{
  if [ "$1" = nbdmigrate ]; then
    rm -rf "$tmp/proxy.dir"
    start_proxy proxy file "$tmp/source"
    return
  fi
  rm -f "$tmp/qmp" "$tmp/proxy.pid" "$tmp/proxy.sock"
  start_bg proxy qemu-storage-daemon --pidfile "$tmp/proxy.pid" \
    --blockdev "driver=file,filename=$tmp/source,node-name=source" \
    --blockdev "driver=nbd,server.type=unix,server.path=$tmp/destination.sock,node-name=copy" \
    --nbd-server "addr.type=unix,addr.path=$tmp/proxy.sock,max-connections=0" \
    --export type=nbd,id=e,node-name=source,name=,writable=on \
    --chardev "socket,id=c,path=$tmp/qmp,server=on,wait=off" \
    --monitor chardev=c
  wait_for server_is_up proxy
}

# run_mover PROGRAM: its beginning and end in "$begin" and "$end"; when the cut-over
# was asked for, or first tried, and when it was known to be done, in "$asked" and
# "$cut"; returns 4 if it gave up.  Nothing of ours runs in the aftermath.
run_mover ()
{
  local status=0

  begin=$EPOCHREALTIME
  if [ "$1" = nbdmigrate ]; then
    # shellcheck disable=SC2086 # words
    migrate ${OPTIONS:-} "$(uri proxy)" "$(uri destination)" || status=$?
  else
    # More than that is never sent in vain.
    /usr/bin/python3 "$SRCDIR/tests/bench/mirror.py" "$tmp/qmp" \
      "$(copy_mode "$1")" $((disk_bytes * 8)) > "$tmp/asked" || status=$?
  fi
  end=$EPOCHREALTIME
  sleep "$aftermath"
  [ "$status" -eq 0 ] || [ "$status" -eq 4 ] || fail "$1: exit status $status"
  if [ "$1" = nbdmigrate ]; then
    event 'map(select(.event == "pause")) |
           "\(first.begin_time // 0) \(last.end_time // 0)"' > "$tmp/asked"
  fi
  read -r asked cut < "$tmp/asked" || true
  return $status
}

copy_mode ()
{
  case $1 in
  mirror) echo background ;;
  mirror-write-blocking) echo write-blocking ;;
  *) fail "there is no program $1" ;;
  esac
}

# What the destination's server has written to its file so far, in bytes.
bytes_written ()
{
  sed -n 's/^wchar: //p' "/proc/${pids[destination]}/io"
}

load_is_at_work ()
{
  grep -q 'at work' "$tmp/load.log" && return
  is_running "${pids[load]}" || fail "the guest ended early"
  return 1
}

# move_once PROGRAM LOAD WARM_UP_MS: an object of it in $tmp/move.json.  Windows:
# "quiet" before it, "move" all of it with the aftermath, "cut" from the first try
# to cut over until it was done, "after" the same with the aftermath, and
# "control", as long as that, before it: what there is to wait for at any time.
move_once ()
{
  local program=$1 begin end ended=true asked=0 cut=0 bytes

  rm -f "$tmp/copy"
  truncate -s "$disk_bytes" "$tmp/copy"
  start_nbdkit destination file "$tmp/copy"
  start_mover "$program"
  describe_load "$2" "$disk_bytes"
  start_bg load "$BUILD/tests/guest-load" run --uri "$(uri proxy)" "${load[@]}" \
    --seed "$seed" --warm-up "$3" --windows "$tmp/windows" --copy "$tmp/copy"
  wait_for load_is_at_work
  run_mover "$program" || ended=false
  bytes=$(bytes_written)
  windows "$begin" "$end" "$asked" "$cut" > "$tmp/windows"
  kill_bg load TERM
  wait_bg load || [ $ended = false ] || fail "$program: $(cat "$tmp/load.out")"
  jq -c --arg program "$program" --arg load "$2" --argjson ended $ended \
    --argjson sent "$bytes" --argjson disk "$disk_bytes" \
    --argjson pauses "$(tried_pauses "$program")" \
    '{load: $load, program: $program, ended: $ended, disk_bytes: $disk,
      sent_bytes: $sent, request_bytes: (.bytes / .requests),
      pauses: $pauses} +
     (.windows | map({key: .name, value: .}) | from_entries)' \
    "$tmp/load.out" > "$tmp/move.json"
  end_bg proxy
  end_bg destination
}

# tried_pauses PROGRAM: what nbdmigrate tells of them (its event "pause").
tried_pauses ()
{
  if [ "$1" = nbdmigrate ]; then
    event 'map(select(.event == "pause")) | tojson'
  else
    echo '[]'
  fi
}

# windows BEGIN END ASKED CUT
windows ()
{
  awk -v begin="$1" -v end="$2" -v asked="$3" -v cut="$4" -v after=$aftermath \
    'BEGIN {
    printf "quiet %f %f\n", begin - 10, begin
    printf "until-done %f %f\n", begin, end
    printf "move %f %f\n", begin, end + after
    if (asked > 0) {
      printf "cut %f %f\n", asked, cut
      printf "after %f %f\n", asked, cut + after
      printf "control %f %f\n", begin - (cut + after - asked), begin
    }
  }'
}

# measure_round NUMBER FILE: each of "$programs" under each of "$loads", an object
# a line.
measure_round ()
{
  local load_name program

  for load_name in "${loads[@]}"; do
    shuffle "${programs[@]}"
    for program in "${shuffled[@]}"; do
      move_once "$program" "$load_name" 200
      jq -c --argjson round "$1" --argjson seed "$seed" \
        '{round: $round, seed: $seed} + .' "$tmp/move.json" >> "$2"
    done
  done
}

# measure_part NAME WHAT ROUNDS SIZE LOADS: all of it, and its report (its script
# says with which variables).  No round begins after $SECONDS_MAX seconds; ADD=1
# goes on from there.
measure_part ()
{
  local out=${OUT:-$BUILD/bench} rounds=${ROUNDS:-$3} loads round

  mkdir -p "$out"
  read -r -a loads <<< "${LOADS:-$5}"
  # shellcheck disable=SC2086 # words
  installed ${PROGRAMS:-nbdmigrate mirror-write-blocking}
  echo "== $1: $rounds $2 ${programs[*]} under ${loads[*]}"
  [ -n "${ADD:-}" ] || rm -f "$out/$1.jsonl"
  prepare_disk "$4"
  for ((round = 0; round < rounds; round++)); do
    ((SECONDS < ${SECONDS_MAX:-1000000})) || break
    measure_round "$round" "$out/$1.jsonl"
  done
  "$SRCDIR/tests/bench/report-$1.sh" "$out"
}
