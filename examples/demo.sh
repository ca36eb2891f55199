#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Copy a disk live, on this machine: a source behind the proxy, a guest that
# writes to it all the time, a destination server, and nbdmigrate between them.
# The guest stays at the source, so that both sides can be compared.
#
#   examples/demo.sh [--no-install] [--size=SIZE] [--rate=SIZE] [--seed=N]
#
#   --no-install   do not install missing packages
#   --size=SIZE    of the disk (default 1G)
#   --rate=SIZE    copy at most so much per second (default: no limit)
#   --seed=N       of the disk's content and of the guest's writes
#   --help         print this and exit
#
# The guest, `referee`, keeps a record of what it wrote when, and which writes
# were acknowledged.  That is the proof at the end: every byte of the
# destination must be what the disk held at the instant of the cut-over.
# Files go to $TMPDIR (default /var/tmp) and are removed at the end.
#
# Exit status: 0 moved and proven, 1 not, 2 usage, 130 interrupted.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=${BUILD:-$top/build}
size=1G
rate=0
seed=$RANDOM
install=yes
guest_rate=20M
density=80  # percent of the disk that holds data

work=
pids=()
migrator=

say ()
{
  echo "demo: $*" >&2
}

die ()
{
  local log

  say "$*"
  for log in "$work"/*.log; do
    if [ -s "$log" ]; then
      say "the end of $(basename "$log"):"
      tail -n 10 "$log" >&2
    fi
  done
  exit 1
}

print_usage ()
{
  sed -n '/^#   examples/,/^#   --help/s/^#   \{0,1\}//p' "${BASH_SOURCE[0]}"
}

usage ()
{
  say "$*"
  print_usage >&2
  exit 2
}

# A size as nbdmigrate takes it, in bytes.
bytes_of ()
{
  numfmt --from=iec "$1" 2> /dev/null || usage "'$1' is not a size"
}

parse_options ()
{
  local arg

  for arg; do
    case $arg in
    --no-install) install=no ;;
    --size=*) size=${arg#*=} ;;
    --rate=*) rate=${arg#*=} ;;
    --seed=*) seed=${arg#*=} ;;
    --help)
      print_usage
      exit 0
      ;;
    *) usage "unknown argument '$arg'" ;;
    esac
  done
  [[ $seed =~ ^[0-9]{1,9}$ ]] || usage "--seed=$seed: not a number"
  size=$(bytes_of "$size")
  rate=$(bytes_of "$rate")
  [ "$size" -ge 1048576 ] || usage "--size: 1M at least"
}

prepare ()
{
  # shellcheck source=tests/packages.sh
  source "$top/tests/packages.sh"
  if [ $install = yes ]; then
    install_missing build demo
  fi
  say "building"
  "${MAKE:-make}" -s -C "$top" -j"$(nproc)" B="$build" demo-build \
    < /dev/null >&2 || die "the build failed"
  build=$(cd "$build" && pwd)
}

# ---- processes -------------------------------------------------------------

# Start something that Ctrl-C on the terminal must not reach: start NAME CMD...
# Its output goes to NAME.out and NAME.log.
start ()
{
  local name=$1
  shift

  setsid "$@" < /dev/null > "$work/$name.out" 2> "$work/$name.log" &
  pids+=($!)
}

# End a process of ours that is still there, and do not wait for ever.
end ()
{
  local i

  kill -TERM "$1" 2> /dev/null || return 0
  for ((i = 0; i < 100; i++)); do
    kill -0 "$1" 2> /dev/null || return 0
    sleep 0.1
  done
  say "process $1 does not end, killing it"
  kill -KILL "$1" 2> /dev/null || :
}

# Last started, first ended: the migrator, the guest, then the servers.
clean_up ()
{
  local i

  trap '' INT TERM HUP
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    end "${pids[i]}"
  done
  [ -z "$work" ] || rm -rf "$work"
}

# Everything is removed, so nbdmigrate must not advise how to go on: it is
# killed, which harms nobody, before the message ends its progress bar.
interrupted ()
{
  if [ -n "$migrator" ]; then
    kill -KILL "$migrator" 2> /dev/null || :
    wait "$migrator" 2> /dev/null || :
    echo >&2
  fi
  say "interrupted: removing everything"
  exit "$1"
}

# wait_until PID WHAT CONDITION...: the process is to bring something about.
wait_until ()
{
  local pid=$1 what=$2 i
  shift 2

  for ((i = 0; i < 600; i++)); do
    if "$@"; then
      return
    fi
    kill -0 "$pid" 2> /dev/null || die "$what: it ended too early"
    sleep 0.05
  done
  die "$what: nothing after 30 seconds"
}

serve ()
{
  local name=$1
  shift

  start "$name" nbdkit -f -U "$work/$name.sock" -P "$work/$name.pid" "$@"
  wait_until "${pids[-1]}" "starting the $name server" \
             test -s "$work/$name.pid"
}

# uri NAME: of a server; what a URI cannot have in a path is escaped.
uri ()
{
  local LC_ALL=C path=$work/$1.sock escaped='' i char

  for ((i = 0; i < ${#path}; i++)); do
    char=${path:i:1}
    case $char in
    [a-zA-Z0-9/._~-]) ;;
    *) printf -v char %%%02X $(($(printf %d "'$char") & 255)) ;;
    esac
    escaped+=$char
  done
  echo "nbd+unix:///?socket=$escaped"
}

guest_has_written ()
{
  [ -e "$work/record" ] && grep -q -m 1 '^A' "$work/record"
}

# ---- the demonstration -----------------------------------------------------

make_room ()
{
  local dir=${TMPDIR:-/var/tmp} free

  if ! [ -d "$dir" ] || ! [ -w "$dir" ]; then
    die "$dir is no folder that can be written to: set TMPDIR to one"
  fi
  free=$(df --output=avail -B1 "$dir" | tail -n 1)
  [ "$free" -ge $((size * 9 / 4)) ] ||
    die "$dir has too little space for two disks of $size bytes:" \
        "set TMPDIR, or try --size=256M"
  work=$(mktemp -d "$dir/nbdmigrate-demo.XXXXXX")
}

start_everything ()
{
  local pattern=pattern:$seed:$density

  truncate -s "$size" "$work/source.img" "$work/destination.img"
  serve source --filter="$build/nbdkit-migrate-filter.so" \
        file "$work/source.img" migrate-dir="$work/migrate"
  serve destination file "$work/destination.img"

  say "filling the source disk: $(human "$size"), $density % of it data"
  "$build/tests/referee" pattern --uri "$source_uri" --seed "$seed" \
    --density $density > /dev/null

  say "starting a guest that writes up to $guest_rate a second (seed $seed)"
  start guest "$build/tests/referee" run --uri "$source_uri" --seed "$seed" \
        --initial "$pattern" --log "$work/record" --rate $guest_rate \
        --until-file "$work/stop"
  guest=${pids[-1]}
  wait_until "$guest" "the guest" guest_has_written
}

# With --finish=detach both sides can be compared afterwards.
migrate ()
{
  local status=0
  local options=(--finish=detach --destination-is-zero --rate="$rate")

  say "nbdmigrate ${options[*]} \\"
  say "    $source_uri \\"
  say "    $destination_uri"
  # In a session of its own: Ctrl-C is for the demonstration only.
  setsid "$build/nbdmigrate" "${options[@]}" --progress --json \
    "$source_uri" "$destination_uri" < /dev/null > "$work/events.json" &
  migrator=$!
  pids+=("$migrator")
  wait "$migrator" || status=$?
  migrator=
  [ $status -eq 0 ] || die "nbdmigrate ended with exit status $status"
}

stop_guest ()
{
  touch "$work/stop"
  wait "$guest" || die "the guest had errors"
}

# A number in a line of JSON: member NAME < LINE
member ()
{
  sed -nE "s/.*\"$1\": *([0-9.eE+-]+).*/\1/p"
}

prove ()
{
  local pause

  say "comparing every byte of the destination with the guest's record"
  pause=$(grep '"event": *"pause"' "$work/events.json" |
            grep '"committed"' | tail -n 1)
  "$build/tests/referee" verify --uri "$destination_uri" --log "$work/record" \
    --mode=cut --cut-after "$(member begin_time <<< "$pause")" \
    --cut-before "$(member end_time <<< "$pause")" > "$work/verdict.json" ||
    die "source and destination DIFFER"
}

human ()
{
  numfmt --to=iec-i --suffix=B --format=%.1f "$1"
}

# calculate FORMAT EXPRESSION: with awk.
calculate ()
{
  awk "BEGIN { printf \"$1\", ($2) }"
}

summary ()
{
  local line copied zeroed written ms

  line=$(grep '"event": *"completed"' "$work/events.json")
  copied=$(member copied_bytes <<< "$line")
  zeroed=$(member zeroed_bytes <<< "$line")
  written=$(member written_bytes < "$work/guest.out")
  ms=$(member duration_ms <<< "$line")

  echo "Identical:  all $(member bytes < "$work/verdict.json") bytes of the" \
       "destination are the source's at the cut-over"
  echo "Bytes:      $(human "$copied") copied, $(human "$zeroed") written as" \
       "zeroes; the guest wrote $(human "$written")"
  echo "Passes:     $(member passes <<< "$line")"
  echo "Throughput: $(human "$(calculate %.0f "$copied * 1000 / ($ms + 1)")")/s" \
       "over $(calculate %.1f "$ms / 1000") s"
  echo "Pause:      $(calculate %.1f "$(member pause_ms <<< "$line")") ms"
}

parse_options "$@"
prepare
trap clean_up EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
trap 'interrupted 129' HUP
make_room
source_uri=$(uri source)
destination_uri=$(uri destination)
start_everything
migrate
stop_guest
prove
summary
