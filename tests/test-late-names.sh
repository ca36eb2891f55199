#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# After a proxy that was killed each of its disks waits until nothing that was sent
# for it can land any more (R17), once: a disk that nobody asked for in between
# stays doubtful, those that somebody asked for do not.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

dir=$tmp/proxy.dir
mkdir "$tmp/disks"
truncate -s 1M "$tmp/disks/a" "$tmp/disks/b"

start_it ()
{
  start_proxy proxy file dir="$tmp/disks" migrate-named-exports=true -v
}

disk ()
{
  echo "nbd+unix:///$1?socket=$tmp/proxy.sock"
}

# ask NAME: be its client.
ask ()
{
  nbdinfo --size "$(disk "$1")" > "$tmp/size"
}

waits ()
{
  grep -q "export \"$1\": no session copies for" "$tmp/proxy.log"
}

# settle NAME: until it waits no more.
settle ()
{
  wait_for has_status "$(disk "$1")" '.quiet_ms == 0'
}

start_it
for name in a b; do
  start_nbdkit "to-$name" memory 1M
  must_migrate --finish=detach "$(disk $name)" "$(uri "to-$name")"
done
crash_bg proxy

echo "-- one of two disks is asked for"
start_it
ask a
waits a || fail "a does not wait after a kill"
settle a
end_bg proxy

echo "-- it does not wait again, the other one does"
start_it
ask a
ask b
! waits a || fail "a waits again"
waits b || fail "b does not wait, and nobody has asked for it since the kill"
settle b
end_bg proxy
[ -f "$dir/lock" ] || fail "there is no lock"
[ ! -s "$dir/lock" ] || fail "something is left, it says"

echo "-- a lock that says something else is that of a kill"
for text in 'late state.a' 'late state.a
late state.b' '.x' '17'; do
  printf '%s\n' "$text" > "$dir/lock"
  start_it
  ask a
  waits a || fail "nobody waits after: $text"
  crash_bg proxy
done
printf '%s\n' 'late state.b' . > "$dir/lock"
start_it
ask a
! waits a || fail "a waits for b"
ask b
waits b || fail "b does not wait"
