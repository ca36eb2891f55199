#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Random schedules of a destination that is late and a migrator that is killed,
# stopped or interrupted, with a referee as the guest: not part of the suite.
#
#   BUILD=build ROUNDS=20 tests/soak-late.sh
#
# Each round has a seed of its own, which is printed: SEED=N ROUNDS=1 repeats it.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq qemu-nbd

RANDOM=$((seed & 32767))
at_end 'go slow go' # it waits for that at its end
size=$((16 * 1024 * 1024))

# pick N: a number below it.
pick ()
{
  picked=$((RANDOM % $1))
}

random_rules ()
{
  local rules=() i

  for i in 1 2; do
    pick 5
    case $picked in
    0) rules+=("write,zero hold until=go count=1") ;;
    1) pick 256
       rules+=("write hold until=go at=$((picked * 65536)) count=2") ;;
    2) pick 3000
       rules+=("write,zero late ms=$picked count=2") ;;
    3) pick 1500
       rules+=("flush late ms=$picked count=1") ;;
    4) rules+=("write hold until=go lands=first count=1") ;;
    esac
  done
  echo "   rules: ${rules[*]}"
  cue slow "${rules[@]}"
}

start_destination ()
{
  start_late slow
  destination=$(uri slow)
  if [ $through = qemu ]; then
    start_late_qemu_nbd qemu slow
    destination=$(uri qemu)
  fi
}

session_is_over ()
{
  [ "$(status .session)" = false ]
}

# One run that is broken off in some way.
broken_run ()
{
  random_rules
  start_migrate --rate=24M "$(uri proxy)" "$destination"
  pick 1500
  sleep "0.$(printf %03d $((picked % 1000)))"
  is_child "${pids[migrator]}" || { wait_bg migrator || :; return; }
  pick 5
  case $picked in
  0 | 1) echo "   killed"; crash_bg migrator ;;
  2) echo "   stopped, killed"
     kill_bg migrator STOP || :; sleep 0.4; crash_bg migrator ;;
  3) echo "   interrupted"
     kill_bg migrator INT || :; wait_bg migrator || : ;;
  4) if [ $through = qemu ]; then
       # What is behind it would go on, and nobody could know.
       echo "   killed"; crash_bg migrator
     else
       echo "   the destination is killed"
       crash_bg slow
       wait_bg migrator || :
       start_late slow
     fi ;;
  esac
  wait_for session_is_over
  pick 2
  [ $picked -eq 0 ] || go slow go # while nobody migrates
}

round ()
{
  local i n

  pick 2
  through=direct
  [ $picked -eq 0 ] || through=qemu
  rm -rf "$tmp/proxy.dir" "$tmp/slow.img" "$tmp"/*.record
  truncate -s $size "$tmp/slow.img"
  late_forget slow
  start_proxy proxy memory $size migrate-chunk=64K
  start_destination
  fill "$(uri proxy)" 100
  start_guest guest "$(uri proxy)" --initial "$pattern" --rate 2M --kinds rwWf
  pick 3
  n=$((picked + 1))
  for ((i = 0; i < n; i++)); do
    [ "$(status .owner)" = source ] || break
    broken_run
  done
  if [ "$(status .owner)" = source ]; then
    pick 2
    [ $picked -eq 0 ] || random_rules
    start_migrate "$(uri proxy)" "$destination"
    pick 900
    sleep "0.$(printf %03d "$picked")"
    go slow go
    cue slow
    WAIT_SECONDS=60 wait_bg migrator ||
      fail "the last run: $(cat "$tmp/migrator.log")"
    sed 's/^/   /' "$tmp/migrator.log" | cut -c1-200
  fi
  go slow go
  guest_goes_on guest 200
  stop_guest guest
  [ "$(status .owner)" = destination ] || fail "it was not pivoted"
  verify_final guest "$(uri proxy)"
  end_bg proxy
  verify_final guest "$destination"
  [ $through = direct ] || end_bg qemu
  end_bg slow
}

for ((r = 0; r < ${ROUNDS:-20}; r++)); do
  echo "-- round $r, SEED=$seed"
  round
  seed=$((seed + 1))
  RANDOM=$((seed & 32767))
done
