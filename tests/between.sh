# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# A proxy between an NBD client and its servers that misbehaves on cue
# (tests/tools/tcp-relay.c), and one that is a long network
# (tests/tools/long-way.c).  Sourced after tests/functions.sh.

declare -A commands_sent=()

# start_between NAME LISTEN BACKEND...: unix:PATH or tcp:ADDRESS:PORT; without
# LISTEN ("") at $tmp/NAME.sock, where "uri NAME" finds it.
start_between ()
{
  local name=$1 listen_at=${2:-unix:$tmp/$1.sock}

  shift 2
  rm -f "$tmp/$name.sock" "$tmp/$name.fifo"
  start_bg "$name" "$BUILD/tests/tcp-relay" "$tmp/$name.fifo" "$listen_at" "$@"
  commands_sent[$name]=0
  wait_for between_has "$name" 0
}

between_has ()
{
  grep -q "^$2 " "$tmp/$1.out" && return
  is_running "${pids[$1]}" || fail "$1 ended early"
  return 1
}

# between NAME COMMAND: returns when it is obeyed.
between ()
{
  echo "$2" > "$tmp/$1.fifo"
  commands_sent[$1]=$((commands_sent[$1] + 1))
  wait_for between_has "$1" "${commands_sent[$1]}"
}

# start_long_way NAME RTT_MS BACKEND: at $tmp/NAME.sock, where "uri NAME" finds
# it.
start_long_way ()
{
  rm -f "$tmp/$1.sock"
  start_bg "$1" "$BUILD/tests/long-way" "$2" "unix:$tmp/$1.sock" "$3"
  wait_for grep -q listening "$tmp/$1.out"
}
