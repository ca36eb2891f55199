# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# What the integration tests share.  Sourced; needs BUILD, the directory that
# make built into, and SRCDIR.
#
# A test gets a directory, $tmp, and a random number, $seed, which is printed;
# SEED=N repeats a run.  Servers and guests run in the background under a name;
# their output is in $tmp/NAME.log.  When the test ends, all of them are
# stopped, and a server that does not end on SIGTERM, or ends badly, fails the
# test.  Nothing here sleeps in place of waiting for something to happen; what
# polls has a bound.

BUILD=${BUILD:?the directory that make built into}
SRCDIR=${SRCDIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
export BUILD SRCDIR LC_ALL=C

nbdmigrate=$BUILD/nbdmigrate
referee=$BUILD/tests/referee
filter=${FILTER:-$BUILD/nbdkit-migrate-filter.so}

seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
echo "seed: $seed (SEED=$seed repeats this run)"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/nbdmigrate-test.XXXXXX")
declare -A pids=()     # by name, of what runs in the background
names=()               # in the order of their start
cleanup_commands=()    # run last to first at the end
in=()                  # what programs are started with (tests/net.sh)
declare -A uris=()     # by name, of servers that have no Unix socket
must_live=()           # names of what must not end while it is waited

# nbdkit_is_at_least MINOR: of 1.
nbdkit_is_at_least ()
{
  [[ $(nbdkit --version) =~ ^nbdkit\ 1\.([0-9]+) ]] &&
    ((BASH_REMATCH[1] >= $1))
}

# ---- ending ----------------------------------------------------------------

fail ()
{
  echo "FAILED: $*" >&2
  exit 1
}

skip ()
{
  echo "SKIP: $*"
  exit 77
}

# requires COMMAND...: skip the test unless all are there.
requires ()
{
  local c

  for c in "$@"; do
    command -v "$c" > /dev/null || skip "there is no $c"
  done
}

requires_root ()
{
  [ "$(id -u)" -eq 0 ] || skip "this needs root"
}

# at_end COMMAND: evaluated when the test ends; may change $status, its exit
# status.
at_end ()
{
  cleanup_commands+=("$1")
}

# A directory on a disk, in $on_disk.  Of a loop device on tmpfs a trim may bring back
# bytes that are older than the last write (Linux 6.18; NBD lets it), which the
# referee takes for a loss.
use_disk ()
{
  on_disk=$(mktemp -d /var/tmp/nbdmigrate-test.XXXXXX)
  at_end "rm -r $on_disk"
}

cleanup ()
{
  local status=$? name i

  trap - EXIT
  set +e
  for ((i = ${#names[@]} - 1; i >= 0; i--)); do
    name=${names[i]}
    [ -n "${pids[$name]:-}" ] || continue
    end_bg "$name" || { [ $status -ne 0 ] || status=1; }
  done
  for ((i = ${#cleanup_commands[@]} - 1; i >= 0; i--)); do
    eval "${cleanup_commands[i]}"
  done
  if [ $status -ne 0 ] && [ $status -ne 77 ]; then
    show_logs
  fi
  if [ -n "${KEEP:-}" ]; then
    echo "kept: $tmp"
  else
    rm -rf "$tmp"
  fi
  exit $status
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

show_logs ()
{
  local f

  for f in "$tmp"/*.log; do
    [ -e "$f" ] || continue
    grep -qv '^referee: seed' "$f" || continue
    echo "---- the end of $(basename "$f"):"
    grep -v "ing worker thread" "$f" | tail -n 30
  done >&2
}

# ---- waiting ---------------------------------------------------------------

# wait_for COMMAND...: until it succeeds; the test fails after a minute
# (WAIT_SECONDS), and at once if one of "must_live" ends.  The command should be
# cheap: what lasts longer is asked after less often, as others want the processor.
wait_for ()
{
  local end=$((SECONDS + ${WAIT_SECONDS:-60})) tries=0 name

  until "$@"; do
    ((SECONDS < end)) || fail "waited in vain for: $*"
    for name in "${must_live[@]}"; do
      [ -z "${pids[$name]:-}" ] || is_running "${pids[$name]}" ||
        fail "$name ended while this was waited for: $*"
    done
    tries=$((tries + 1))
    if ((tries < 50)); then
      sleep 0.02
    else
      sleep 0.05
    fi
  done
}

# process_stat PID: the state of a process and its parent, and more.
process_stat ()
{
  { read -r stat < "/proc/$1/stat"; } 2> /dev/null || return 1
  stat=${stat##*) }
}

# A process that has ended but was not waited for has ended.
is_running ()
{
  local stat

  process_stat "$1" && [ "${stat:0:1}" != Z ]
}

# is_stopped NAME: by SIGSTOP, with all of its threads.  On a busy machine they go
# on, and answer requests, until one of them has taken the signal.
is_stopped ()
{
  local status=0

  grep -qv '^[0-9]* (.*) T ' "/proc/${pids[$1]}/task/"*/stat 2> /dev/null ||
    status=$?
  [ $status -eq 1 ] # every line of every thread has it
}

# is_running for one that was started here.  The shell takes note of its end at
# once, and from then on its number may be that of a stranger.
is_child ()
{
  local stat

  process_stat "$1" && [[ $stat == [!Z]" $$ "* ]]
}

is_no_child ()
{
  ! is_child "$1"
}

has_ended ()
{
  ! is_running "$1"
}

is_file ()
{
  [ -s "$1" ]
}

# ---- programs in the background --------------------------------------------

# start_bg NAME COMMAND...: the one of this name before has ended, or nobody would end
# it any more.
start_bg ()
{
  local name=$1

  shift
  [ -z "${pids[$name]:-}" ] || ! is_child "${pids[$name]}" ||
    fail "$name is running already"
  # Emptied here: what an earlier one of this name said must not be taken for
  # what this one says.
  : > "$tmp/$name.out"
  : > "$tmp/$name.log"
  # The shell would have it ignore SIGINT.
  "${in[@]}" env --default-signal=INT,QUIT "$@" \
    >> "$tmp/$name.out" 2>> "$tmp/$name.log" &
  pids[$name]=$!
  names+=("$name")
}

# wait_bg NAME: until it has ended by itself; returns its exit status.
wait_bg ()
{
  local pid=${pids[$1]} status=0

  wait_for is_no_child "$pid"
  wait "$pid" 2> /dev/null || status=$?
  unset "pids[$1]"
  return $status
}

# kill_bg NAME SIGNAL: what is stopped has stopped when this returns.
kill_bg ()
{
  if ! is_child "${pids[$1]}"; then
    echo "$1 has ended by itself: no signal $2" >&2
    return 1
  fi
  kill -"$2" "${pids[$1]}"
  [ "$2" != STOP ] || wait_for has_stopped_or_ended "$1"
}

has_stopped_or_ended ()
{
  is_stopped "$1" || is_no_child "${pids[$1]}"
}

# end_bg NAME: with SIGTERM, within bounded time, and with a good exit status.
end_bg ()
{
  local name=$1 pid=${pids[$1]} status=0 end=$((SECONDS + 30))

  ! is_child "$pid" || kill -TERM "$pid" 2> /dev/null || :
  while is_child "$pid"; do
    if ((SECONDS >= end)); then
      echo "FAILED: $name did not end on SIGTERM" >&2
      kill -KILL "$pid"
      wait "$pid" 2> /dev/null
      unset "pids[$name]"
      return 1
    fi
    sleep 0.02
  done
  wait "$pid" 2> /dev/null || status=$?
  unset "pids[$name]"
  # The exit status of a program that knows nothing of SIGTERM is 143.
  if [ $status -ne 0 ] && [ $status -ne 143 ] &&
    ! ended_by_nbdkit "$name" $status; then
    echo "FAILED: $name ended with exit status $status" >&2
    return 1
  fi
}

# ended_by_nbdkit NAME STATUS: nbdkit before 1.34 can end by an assertion of its
# own when a client goes away that has requests in flight.  That is none of a
# test's business which kills such a client, where it is a destination's server;
# the proxy has to live.
ended_by_nbdkit ()
{
  [ "$2" -eq 134 ] && [ ! -e "$tmp/$1.dir" ] &&
    ! nbdkit_is_at_least 34 &&
    grep -q 'connections\.c:.* raw_send_socket: Assertion' "$tmp/$1.log" ||
    return 1
  echo "$1: nbdkit ended by its own assertion in raw_send_socket"
}

# Gone at once, as in a crash.
crash_bg ()
{
  local pid=${pids[$1]}

  ! is_child "$pid" || kill -KILL "$pid"
  wait "$pid" 2> /dev/null || :
  unset "pids[$1]"
}

# ---- servers ---------------------------------------------------------------

# The URI of a server by its name.
uri ()
{
  echo "${uris[$1]:-nbd+unix:///?socket=$tmp/$1.sock}"
}

# Instead of a Unix socket (tests/net.sh).
listen=() listen_uri=

# start_nbdkit NAME ARGUMENT...
start_nbdkit ()
{
  local name=$1 at=("${listen[@]}")

  shift
  [ ${#at[@]} -gt 0 ] || at=(-U "$tmp/$name.sock")
  uris[$name]=$listen_uri
  rm -f "$tmp/$name.pid" "$tmp/$name.sock"
  start_bg "$name" nbdkit -f "${at[@]}" -P "$tmp/$name.pid" "$@"
  wait_for server_is_up "$name"
}

# start_proxy NAME ARGUMENT...: the filter on top of what the arguments say,
# with its control socket in $tmp/NAME.dir.
start_proxy ()
{
  local name=$1

  shift
  start_nbdkit "$name" --filter="$filter" "$@" migrate-dir="$tmp/$name.dir"
}

# start_qemu_nbd NAME ARGUMENT...
start_qemu_nbd ()
{
  local name=$1

  shift
  rm -f "$tmp/$name.pid" "$tmp/$name.sock"
  start_bg "$name" qemu-nbd -t -k "$tmp/$name.sock" \
    --pid-file="$tmp/$name.pid" "$@"
  wait_for server_is_up "$name"
}

server_is_up ()
{
  [ -s "$tmp/$1.pid" ] && return
  is_running "${pids[$1]}" || fail "$1 did not start"
  return 1
}

# start_nbd_server FILE [LINE...]: the oldest server, with these lines more in its
# configuration; its URI in $nbd_server_uri.  It goes into the background by
# itself.
start_nbd_server ()
{
  nbd_server_uri="nbd+unix:///disk?socket=$tmp/nbd-server.sock"
  rm -f "$tmp/nbd-server.pid" "$tmp/nbd-server.sock"
  cat > "$tmp/nbd-server.conf" <<END
[generic]
    unixsock = $tmp/nbd-server.sock
[disk]
    exportname = $1
    flush = true
    fua = true
    trim = true
$(printf '    %s\n' "${@:2}")
END
  at_end stop_nbd_server
  nbd-server -C "$tmp/nbd-server.conf" -p "$tmp/nbd-server.pid" \
    2> "$tmp/nbd-server.log"
  wait_for nbd_server_is_up
}

nbd_server_is_up ()
{
  nbdinfo --size "$nbd_server_uri" > "$tmp/nbdinfo.out" 2>&1
}

stop_nbd_server ()
{
  local pid

  is_file "$tmp/nbd-server.pid" || return 0
  pid=$(cat "$tmp/nbd-server.pid")
  ! is_running "$pid" || kill "$pid"
  wait_for has_ended "$pid"
}

# ---- guests ----------------------------------------------------------------

# What a guest may do whose disk lies in a qcow2 image: all but zeroing without
# holes.  QEMU (7.2) loses data when that, zeroing with holes and writes meet in
# one cluster at the same time; a referee directly at qemu-nbd, without any of
# nbdmigrate, shows it within seconds (run --kinds rwWzZf --align 512).
# shellcheck disable=SC2034
kinds_for_qcow2=(--kinds rwWztf)

# start_guest NAME URI ARGUMENT...: the referee's guest, its record in
# $tmp/NAME.record; returns when it has done some work (GUEST_ACKS requests, for
# one that does little).
start_guest ()
{
  local name=$1 uri=$2

  shift 2
  start_bg "$name" "$referee" run --uri "$uri" --log "$tmp/$name.record" \
    --seed "$seed" "$@"
  wait_for guest_has_acked "$name" "${GUEST_ACKS:-50}"
}

# guest_has_acked NAME N: whether so many requests were acknowledged.
guest_has_acked ()
{
  local n

  n=$(grep -c '^A' "$tmp/$1.record" 2> /dev/null) || :
  ((${n:-0} >= $2)) && return
  is_running "${pids[$1]}" || fail "the guest $1 ended early"
  return 1
}

# The guest must go on: so many more requests.
guest_goes_on ()
{
  local n

  n=$(grep -c '^A' "$tmp/$1.record") || :
  wait_for guest_has_acked "$1" $((n + ${2:-50}))
}

# stop_guest NAME: it must have seen nothing wrong.
stop_guest ()
{
  kill_bg "$1" TERM
  wait_bg "$1" || fail "the guest $1 ended with exit status $?"
  echo "guest $1: $(cat "$tmp/$1.out")"
}

# Fill a disk of zeroes: fill URI DENSITY.  A guest on it needs
# "--initial $pattern".
fill ()
{
  "${in[@]}" "$referee" pattern --uri "$1" --seed "$seed" --density "$2"
  pattern=pattern:$seed:$2
}
export pattern=zero # used by tests

# logged_lengths KIND FILE: of all such requests in nbdkit's log filter's file,
# in bytes, a line for each.
logged_lengths ()
{
  local count

  while read -r count; do
    echo $((count))
  done < <(sed -n "s/.* $1 id=.* count=\(0x[0-9a-f]*\) .*/\1/p" "$2")
}

# ---- time ------------------------------------------------------------------

# hurried N COMMAND...: what it starts has a time that runs N times as fast while
# $tmp/hurry exists (tests/preload/hurry.c).  Only while nobody else has to keep up
# with it.  With a sanitizer, whose runtime has to be loaded before everything else
# and makes all slow, they take their time.
hurried ()
{
  local factor=$1

  shift
  if [ -n "${SANITIZER:-}" ]; then
    "$@"
  else
    LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/hurry-preload.so HURRY=$factor \
      HURRY_ARM=$tmp/hurry "$@"
  fi
}

# ---- the control socket ----------------------------------------------------

# start_talker NAME: a conversation with the control socket of a proxy.
start_talker ()
{
  rm -f "$tmp/talker.in" "$tmp/talker.answers"
  mkfifo "$tmp/talker.in" "$tmp/talker.answers"
  "$BUILD/tests/control" "$tmp/$1.dir/control" < "$tmp/talker.in" \
    > "$tmp/talker.answers" 2> "$tmp/talker.log" &
  pids[talker]=$!
  names+=(talker)
  exec {talk_to}> "$tmp/talker.in" {talk_from}< "$tmp/talker.answers"
  read -r answer <&"$talk_from" || fail "no greeting from the control socket"
}

# talk COMMAND [ARGUMENTS]: its answer is in $answer, and must be a good one.
talk ()
{
  ask "$@"
  [[ $answer == '{"return"'* ]] || fail "$1: $answer"
}

# The same, whatever the answer is.
ask ()
{
  echo "{\"execute\": \"$1\", \"arguments\": ${2:-{\}}}" >&"$talk_to"
  read -r answer <&"$talk_from" || fail "$1: no answer"
}

# answered EXPRESSION: jq over the last answer.
answered ()
{
  jq -r "$1" <<< "$answer"
}

# The conversation ends; the control client ends with it.
stop_talker ()
{
  exec {talk_to}>&- {talk_from}<&-
  [ -z "${pids[talker]:-}" ] || wait_bg talker || :
}

# ---- migrating -------------------------------------------------------------

# Sanitizers make everything slow, and a disk that others write to makes recording the
# owner take longer than a pause may; options of the test itself come later.
slow=()
if [ -n "${SANITIZER:-}" ] || [ "$(stat -f -c %T "$tmp")" != tmpfs ]; then
  slow=(--max-pause=4s)
fi

# migrate ARGUMENT...: returns the exit status; events in $tmp/events, messages
# in $tmp/migrate.log.
migrate ()
{
  local status=0

  "${in[@]}" "$nbdmigrate" --json "${slow[@]}" "$@" \
    > "$tmp/events" 2> "$tmp/migrate.log" || status=$?
  return $status
}

# The same in the background, under the name "migrator".
start_migrate ()
{
  start_bg migrator "$nbdmigrate" --json "${slow[@]}" "$@"
  ln -sf migrator.out "$tmp/events"
}

# must_migrate ARGUMENT...: it has to work.
must_migrate ()
{
  migrate "$@" || fail "nbdmigrate $*: exit status $?"
}

# event EXPRESSION: jq over all events so far, as an array.  A last line that
# is not whole is left out.
event ()
{
  grep '}$' "$tmp/events" | jq -r -s "$1"
}

# has_event NAME
has_event ()
{
  grep -q "\"event\": *\"$1\"" "$tmp/events" 2> /dev/null && return
  [ -z "${pids[migrator]:-}" ] || is_running "${pids[migrator]}" ||
    fail "the migrator ended without event $1"
  return 1
}

# A number of the `completed` event.
completed ()
{
  event "map(select(.event == \"completed\")) | last | .$1"
}

# ---- looking ---------------------------------------------------------------

# status_of WHERE EXPRESSION: jq over what is known of a disk, by its URI or by
# the proxy's directory.
status_of ()
{
  "${in[@]}" "$nbdmigrate" status --json "$1" | jq -r "$2"
}

# has_status WHERE EXPRESSION: whether it is true.
has_status ()
{
  [ "$(status_of "$1" "$2")" = true ]
}

# must_have_status WHERE EXPRESSION
must_have_status ()
{
  has_status "$1" "$2" || fail "not so: $2 in $(status_of "$1" .)"
}

# status EXPRESSION: of the only disk of the proxy "proxy".
status ()
{
  status_of "$(uri proxy)" "$1"
}

# A migration of it waits for "finish".
is_ready ()
{
  [ "$(status .progress.phase)" = ready ]
}

# ---- verdicts --------------------------------------------------------------

# verify_final GUEST URI ARGUMENT...: all that was acknowledged must be there.
verify_final ()
{
  local name=$1 uri=$2

  shift 2
  "${in[@]}" "$referee" verify --log "$tmp/$name.record" --uri "$uri" --mode=final "$@" ||
    fail "$uri does not hold what the guest wrote"
}

# verify_cut GUEST URI ARGUMENT...: the disk must be as at one instant of the
# last committed pause.
verify_cut ()
{
  local name=$1 uri=$2 bounds

  shift 2
  bounds=$(event 'map(select(.event == "pause" and .result == "committed")) |
                  last | "--cut-after=\(.begin_time)" +
                         " --cut-before=\(.end_time)"')
  # shellcheck disable=SC2086 # two words
  "${in[@]}" "$referee" verify --log "$tmp/$name.record" --uri "$uri" --mode=cut \
    $bounds "$@" || fail "$uri is no copy of one instant of the pause"
}

# same_content URI URI: byte for byte, for disks nobody writes to.
same_content ()
{
  nbdcopy --synchronous "$1" "$tmp/content.1" || fail "$1 cannot be read"
  nbdcopy --synchronous "$2" "$tmp/content.2" || fail "$2 cannot be read"
  cmp "$tmp/content.1" "$tmp/content.2" || fail "$1 and $2 differ"
  rm "$tmp/content.1" "$tmp/content.2"
}

# expect_status N COMMAND...
expect_status ()
{
  local expected=$1 status=0

  shift
  "$@" || status=$?
  [ $status -eq "$expected" ] ||
    fail "exit status $status instead of $expected: $*"
}

# The time as the guest's record has it.
now ()
{
  date +%s.%6N
}

# ---- figures ---------------------------------------------------------------

# median NUMBER...
median ()
{
  printf '%s\n' "$@" | sort -g |
    awk '{ v[NR] = $1 }
         END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
