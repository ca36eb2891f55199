#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a copy costs, in counts, which do not depend on how busy the machine is:
# requests, and nbdmigrate's system calls and wake-ups, for each GiB of a dense
# disk and each GiB of data of a sparse one; and the page faults of all of it, and
# how often the source is opened.
# Of two copies of different length the difference counts, so that starting,
# marks and samples are left out.
#
# Each bound says where it comes from.  It is for what a change of the code could
# make of it (a fault for each page, a flush for each request), and well above
# what was seen: some of these counts still depend on who is faster.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq strace
[ -z "${SANITIZER:-}" ] || skip "a sanitizer has costs of its own"

mib=$((1024 * 1024))
# Pages of 4 KiB: 64 MiB that are shared with the proxy and 24 MiB of other
# buffers, each once; and 4000 to start.
all_buffers=$(((64 + 24) * 256 + 4000))

# start_servers BYTES PIECES LENGTH: a disk with so many pieces of data.
start_servers ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/reads" "$tmp/writes" "$tmp/disk" "$tmp/copy"
  truncate -s "$1" "$tmp/disk" "$tmp/copy"
  "$BUILD/tests/scatter" "$tmp/disk" "$2" "$3" "$seed"
  start_nbdkit proxy --filter=log --filter="$filter" file "$tmp/disk" \
    logfile="$tmp/reads" migrate-dir="$tmp/proxy.dir"
  start_nbdkit destination --filter=log file "$tmp/copy" logfile="$tmp/writes"
}

stop_servers ()
{
  end_bg proxy
  end_bg destination
  "$BUILD/tests/same-data" "$tmp/disk" "$tmp/copy" || fail "the copy is not right"
}

# requests KIND FILE: how many of them the log has.
requests ()
{
  grep -c "connection=[0-9]* $1 id=" "$2" || :
}

# calls NAME...: how often strace has seen these system calls.
calls ()
{
  local name total=0 n

  for name; do
    n=$(awk -v name="$name" '$NF == name { print $4 }' "$tmp/calls")
    total=$((total + ${n:-0}))
  done
  echo $total
}

# count_copy BYTES PIECES LENGTH: the counts of one copy, in "$counts".
declare -A counts=()
count_copy ()
{
  start_servers "$@"
  # The few calls of measure itself are always as many.
  strace -f -c -o "$tmp/calls" "$BUILD/tests/measure" "$tmp/result" -- \
    "$nbdmigrate" --quiet --finish=detach "$(uri proxy)" "$(uri destination)"
  stop_servers
  counts=(
    [reads]=$(($(requests Read "$tmp/reads") + $(requests Cache "$tmp/reads")))
    [writes]=$(requests Write "$tmp/writes")
    [zeroes]=$(requests Zero "$tmp/writes")
    [flushes]=$(requests Flush "$tmp/writes")
    [faults]=$(jq .faults "$tmp/result")
    [opens]=$(grep -c ' Connect ' "$tmp/reads")
    [calls]=$(calls total)
    [wake-ups]=$(calls poll ppoll epoll_wait epoll_pwait select pselect6)
  )
}

# between BYTES PIECES BYTES PIECES LENGTH: the difference of two copies, for
# each GiB of data, in "$each".
declare -A each=()
between ()
{
  local name more=$((($4 - $2) * $5))
  local -A less=()

  count_copy "$1" "$2" "$5"
  for name in "${!counts[@]}"; do
    less[$name]=${counts[$name]}
  done
  count_copy "$3" "$4" "$5"
  for name in "${!counts[@]}"; do
    each[$name]=$(((counts[$name] - less[$name]) * 1024 * mib / more))
  done
  # How soon all of the buffers have been touched depends on who is faster.
  each[faults]=${counts[faults]}
  each[opens]=${counts[opens]}
}

# at_most BOUND NAME
at_most ()
{
  printf '%8d %-9s at most %d\n' "${each[$2]}" "$2" "$1"
  [ "${each[$2]}" -le "$1" ] || failed+=" $2"
}
failed=''

echo "-- a dense disk, for each GiB"
between $((64 * mib)) 64 $((160 * mib)) 160 $mib
at_most 6144 reads   # 4096 of 256 KiB; half as many again if some are shorter
at_most 6144 writes  # the same
at_most 16 zeroes    # nothing is zero
at_most 256 flushes  # one in five seconds beside the copying, on each connection;
                     # none for a request: 4096
at_most 60000 calls  # 15 for each pair of requests; 256 KiB go through a socket
                     # at once, or in two parts where the system's limit is low
at_most 16384 wake-ups # 4 for each pair: two answers, two sockets that are full
at_most $all_buffers faults # of all, not for each GiB; one a page: 40960
at_most 4 opens # of the source, in all, each of which may look for its first
                # hole: one to learn where its control socket is, two that may
                # share memory, and whether a guest would be admitted as well

echo "-- a sparse disk, for each GiB of data in pieces of 64 KiB"
between $((4096 * mib)) 256 $((16384 * mib)) 1024 65536
at_most 20000 reads  # 16384 pieces of data; some lie across two requests
at_most 20000 writes
at_most 1000 zeroes # the destination reads as zeroes already
at_most 256 flushes
at_most 200000 calls # 6 for each of these requests
at_most 50000 wake-ups # 3 for each pair

[ -z "$failed" ] || fail "too many:$failed"
