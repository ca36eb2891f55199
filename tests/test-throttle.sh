#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The limit of what guests may write: it delays their writes and nothing else,
# and is gone with whatever it was for.
#
# At a byte per second each write waits as long as any may, so that somebody is
# always found waiting; how long that is, is never asked.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io

size=$((16 << 20))

limit ()
{
  talk throttle "{\"bytes_per_second\": $1}"
}

throttle ()
{
  talk status
  answered ".return.throttle.$1"
}

somebody_waits ()
{
  [ "$(throttle waiting_requests)" -gt 0 ]
}

# Of a guest with four requests at a time; $answer has it.
all_wait ()
{
  talk status
  [ "$(answered .return.throttle.waiting_requests)" -eq 4 ]
}

nobody_waits ()
{
  [ "$(throttle waiting_requests)" -eq 0 ]
}

has_no_session ()
{
  talk status
  [ "$(answered .return.session)" = false ]
}

# io NAME COMMAND...: one client, one command after the other.
io ()
{
  local name=$1 commands=() c

  shift
  for c in "$@"; do commands+=(-c "$c"); done
  start_bg "$name" qemu-io -f raw "${commands[@]}" "$(uri proxy)"
}

must_io ()
{
  io io "$@"
  wait_bg io || fail "qemu-io $*"
}

begin ()
{
  start_talker proxy
  talk attach
  talk begin '{"destination": "nbd://localhost/nowhere", "restart": true}'
}

take_all ()
{
  local epoch

  talk take "{\"cursor\": 0, \"max_bytes\": $size}"
  talk status
  epoch=$(answered .return.epoch)
  talk "done" "{\"extents\": [[0, $size]], \"epoch\": $epoch}"
}

# ---- what is shown ---------------------------------------------------------

rate ()
{
  local begun writes=() i took

  echo "-- the rate: half a second's worth takes no less than a quarter"
  limit $((4 << 20))
  begun=${EPOCHREALTIME/./}
  for ((i = 0; i < 32; i++)); do writes+=("write $((i * 65536)) 65536"); done
  must_io "${writes[@]}"
  took=$((${EPOCHREALTIME/./} - begun))
  ((took >= 250000)) || fail "2 MiB in $took us"
  [ "$(throttle charged_bytes)" -eq $((2 << 20)) ] || fail "not the length"
  talk status
  [ "$(answered .return.guest_latency.requests)" -eq 32 ] || fail "$answer"
}

zeroes ()
{
  local charged requests

  echo "-- zeroes and trims cost what they make dirty, and are seen"
  limit $((1 << 30))
  charged=$(throttle charged_bytes)
  talk status
  requests=$(answered .return.guest_latency.requests)
  must_io "write -z 0 $size" "discard 0 $size"
  [ $(($(throttle charged_bytes) - charged)) -eq 8192 ] || fail "$answer"
  talk status
  [ "$(answered ".return.guest_latency.requests - $requests")" -eq 2 ] ||
    fail "$answer"
  take_all
  must_io "discard 0 $size"
  [ $(($(throttle charged_bytes) - charged - 8192)) -eq $size ] ||
    fail "$answer"
}

reads ()
{
  local charged

  echo "-- reads and flushes pass, and so does what waits when the limit goes"
  limit 1
  io writer 'write 0 4k' 'write 0 4k' 'write 0 4k' 'write 0 4k' 'write 0 4k'
  wait_for somebody_waits
  charged=$(throttle charged_bytes)
  must_io 'read 0 16M' 'flush'
  [ $(($(throttle charged_bytes) - charged)) -le $((5 * 4096)) ] ||
    fail "a read was charged"
  limit 0
  wait_bg writer || fail "the writer ended with exit status $?"
  nobody_waits || fail "$answer"
}

gate ()
{
  local token

  echo "-- the gate, and nobody else waits for what is delayed"
  start_guest guest "$(uri proxy)" --depth 4 --kinds w
  limit 1
  wait_for all_wait
  [ "$(answered .return.in_flight_requests)" -lt 4 ] ||
    fail "delayed in the list: $answer"
  talk hold '{"deadline_ms": 4000}'
  token=$(answered .return.token)
  nobody_waits || fail "delayed before a shut gate: $answer"
  talk release "{\"token\": \"$token\"}"
  wait_for somebody_waits

  echo "-- a client that is gone"
  kill_bg guest KILL
  wait_bg guest || :
  wait_for nobody_waits
}

dies ()
{
  echo "-- the session's process dies"
  limit 0
  start_guest other "$(uri proxy)" --depth 4 --kinds w
  limit 1
  wait_for somebody_waits
  kill_bg talker KILL
  wait_bg talker || :
  exec {talk_to}>&- {talk_from}<&-
  start_talker proxy
  talk attach
  wait_for has_no_session # the proxy sees that by and by
  [ "$(throttle bytes_per_second)" -eq 0 ] ||
    fail "the limit outlives its session: $answer"
  guest_goes_on other 200
  stop_guest other
}

ends ()
{
  echo "-- the server ends"
  talk begin '{"destination": "nbd://localhost/nowhere", "restart": true}'
  limit 1
  io writer 'write 0 4k' 'write 0 4k' 'write 0 4k' 'write 0 4k' 'write 0 4k'
  wait_for somebody_waits
  end_bg proxy || fail "the proxy ended with exit status $?"
  wait_bg writer || :
}

start_proxy proxy memory $size
must_io 'write 0 4k'
begin
[ $# -gt 0 ] || set -- rate zeroes reads gate dies ends
for part; do
  $part
done
