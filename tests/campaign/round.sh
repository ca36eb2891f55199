#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# One round of the campaign: disks are moved under a guest, something is killed,
# stopped, cut off or made to fail at a random moment of a phase, it comes back, and
# the move is made again until it is done, now and then with further kills.  What
# nbdmigrate ends with and says is held against the record of who owns the disk, and
# the disk against the guest's record.
#
#   BUILD=DIR SEED=N      repeats a round
#   CASE='PHASE VICTIM FAULT'   this one, whatever the seed says
#   ONLY=REGEX            of all cases only those
#   FINISH=, DISKS=       the same
#   FAULTS=N              at most so many of them while the disks move
#
# Each thing done is told in a line, "met PHASE VICTIM FAULT FINISH DISKS POLICY", or
# "missed ..." if the phase was over; then "kill NAME", "stop NAME", "cut".  run.sh
# counts them.

set -euo pipefail
SRCDIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=$(cd "${BUILD:-$SRCDIR/build}" && pwd)
# shellcheck source=tests/functions.sh
source "$SRCDIR/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
# shellcheck source=tests/campaign/parts.sh
source "$SRCDIR/tests/campaign/parts.sh"
# shellcheck source=tests/campaign/migrator.sh
source "$SRCDIR/tests/campaign/migrator.sh"
# shellcheck source=tests/campaign/faults.sh
source "$SRCDIR/tests/campaign/faults.sh"
# shellcheck source=tests/campaign/relay.sh
source "$SRCDIR/tests/campaign/relay.sh"
# shellcheck source=tests/campaign/verdict.sh
source "$SRCDIR/tests/campaign/verdict.sh"
# shellcheck source=tests/campaign/cases.sh
source "$SRCDIR/tests/campaign/cases.sh"
requires nbdkit jq

# Most of a round is waiting for what jq finds in a status, and half of its time on the
# processor was the start of jq 1.6.
if [ -n "$(type -P gojq)" ]; then
  jq () { gojq "$@"; }
fi

# The directory of a round that failed is kept.
# shellcheck disable=SC2016 # for later
at_end '[ $status -eq 0 ] || KEEP=1'

choose ()
{
  read -r phase victim fault <<< "${CASE:-${cases[seed * 53 % ${#cases[@]}]}}"
  RANDOM=$((seed * 40503 / 64 % 32768))
  pick disks 1 1 2
  pick finish pivot pivot handover detach incremental
  pick source_cache file volatile
  pick reconnect 0 30s 30s
  pick faults 1 1 3 6
  faults=${FAULTS:-$faults}
  disks=${DISKS:-$disks} finish=${FINISH:-$finish}
  sick=$((RANDOM % disks))
  policy=off links=unix tolerate=() migrator=()
  size=$((8 * 1024 * 1024 + 512))
  [ "$phase" != mirror ] || policy=mirror size=$outrun_bytes
  case $phase in relay | away) finish=pivot ;; esac
  [ "$fault" != cut ] || links=cable
  # When one of two is handed over the guest does not go on, so that its record cannot
  # be told of a cache that the other's source loses.
  [ "$finish:$disks" != handover:2 ] || source_cache='file'
  case $victim:$fault in guest:eio | proxy:eio) source_cache=volatile ;; esac
  # After a pivot the destination's errors are the guest's.
  case $victim:$fault:$finish in
  guest:eio:* | proxy:eio:* | *:enospc:pivot | *:eio:pivot)
    tolerate=(--tolerate-errors) ;;
  esac
  what=$finish
  [ "$finish" != incremental ] || { finish=detach; migrator=(--incremental); }
  migrator+=(--converge="$policy" --reconnect="$reconnect")
  guest=(--expect-disconnect --expect-shutdown "${tolerate[@]}")
  if [ $policy = mirror ]; then
    guest+=("${outrun_guest[@]}")
    migrator+=("${outrun_copy[@]}")
  else
    # Much of what was copied is not copied again if the guest touches little.
    pick touched 8192 48
    guest+=(--cells "$touched" --rate 3M --depth $((4 + RANDOM % 12))
            --connections $((1 + RANDOM % 4)))
  fi
  mode="$what $disks $policy"
  echo "round $seed: $phase $victim $fault; $finish ${migrator[*]}, $disks disks," \
    "source: $source_cache, $links"
}

set_up ()
{
  local i

  if [ "$links" = cable ]; then
    # shellcheck source=tests/net.sh
    source "$SRCDIR/tests/net.sh"
    add_host here
    add_host there
  fi
  for i in $(each_disk); do
    truncate -s "$size" "$tmp/source$i.img" "$tmp/destination$i.img"
    start_proxy_for_phase "$i"
    start_destination "$i"
    fill "$(S "$i")" 40 > "$tmp/fill.out"
  done
  resume_guest
  if [ "${migrator[0]}" = --incremental ]; then
    migrate_again
    goes_on 20
  fi
}

# Where the commit is what is waited for, its work on the state file waits, or it is
# killed there.
start_proxy_for_phase ()
{
  local how=hang

  if [ "$phase" != commit ] || [ "$1" -ne "$sick" ]; then
    start_the_proxy "$1"
    return
  fi
  case $victim:$fault in
  proxy:kill) pick how before torn after hang ;;
  proxy:enospc) how=fail ;;
  esac
  start_crashing "$1" "$how" $((1 + RANDOM % 3))
}

# finish_it: end the waiting of --wait.
finish_it ()
{
  ! migrates || "$nbdmigrate" finish --no-wait "$tmp/proxy${moving[0]}.dir" \
    2>> "$tmp/finish.log" || :
}

has_begun ()
{
  ! migrates || grep -q '"event": *"started"' "$tmp/events"
}

has_mirrored ()
{
  ! migrates || any_disk '.session and .mirror.writes > 0'
}

is_in_pause ()
{
  ! migrates || any_disk '.gate == "closed"'
}

is_in_commit ()
{
  ! migrates || is_file "$tmp/steps" || ! is_child "${pids[proxy$sick]}"
}

# It waits for a write of the guest, if the source can hold one back, and is slow in any
# case.
make_pause_long ()
{
  local i

  for i in $(each_disk); do
    cue "destination$i" 'flush late ms=800' "write late ms=$((RANDOM % 100))"
  done
  [ "$source_cache" = volatile ] || return 0
  cue "source$sick" 'write hold until=go count=1'
  wait_for late_has "source$sick" ' write .* came$'
}

# reach PHASE: false if the migrator has ended before.
reach ()
{
  case $1 in
  bulk)
    start_the_migrator --rate=8M
    wait_for has_begun
    for_a_while ;;
  rounds)
    start_the_migrator --wait
    wait_for is_in ready
    for_a_while ;;
  mirror)
    start_the_migrator --wait
    wait_for has_mirrored
    for_a_while ;;
  pause)
    start_the_migrator --wait
    wait_for is_in ready
    make_pause_long
    finish_it
    wait_for is_in_pause ;;
  commit)
    start_the_migrator --wait
    wait_for is_in ready
    : > "$tmp/armed"
    finish_it
    wait_for is_in_commit ;;
  esac
  migrates || [ "$phase:$victim:$fault" = commit:proxy:kill ]
}

# may_be_unknown: whether nbdmigrate may not have been able to ask.
may_be_unknown ()
{
  [ "$victim" = proxy ] || [ "$victim" = both ]
}

copy_with_fault ()
{
  if ! reach "$phase"; then
    echo "missed $phase $victim $fault $mode"
  else
    echo "met $phase $victim $fault $mode"
    "${victim}_$fault"
  fi
  let_go
  [ "$phase" = bulk ] || [ ${#afterwards[@]} -gt 0 ] || finish_it
  end_of_migrator
  restore
  judge_end "$ended" may_be_unknown
  wait_for no_session
  ended_well
}

# The guest of a disk that was handed over has ended; any other goes on.
ended_well ()
{
  if [ "$finish" = handover ] && all_moved; then
    bury_guest
    return
  fi
  guest_lives || bury_guest
  if [ "$finish" != handover ] || ! any_disk '.owner == "fenced"'; then
    resume_guest
  fi
}

# More of them, as long as there is something to be moved, and a guest: when one disk of
# two was handed over it does not go on.
more_faults ()
{
  local next

  ((${#again[@]} > 0)) || return 0
  while ((--faults > 0)) && ! all_moved && guest_lives; do
    pick next "${again[@]}"
    read -r phase victim fault <<< "$next"
    # A guest that outruns the copy lets nothing be ready but by the mirror.
    [ $policy = off ] || phase=mirror
    sick=$((RANDOM % disks))
    copy_with_fault
  done
}

# Until it is done.  Now and then without the guest, and both sides must be equal then.
complete ()
{
  local i

  until is_done; do
    if [ "$finish" = pivot ] && [ "$disks" -eq ${#moving[@]} ] && ((RANDOM % 3 == 0)); then
      stop_guest guest
      migrate_again
      for i in $(each_disk); do
        cmp "$tmp/source$i.img" "$tmp/destination$i.img" || fail "disk $i: they differ"
      done
    else
      migrate_again
    fi
    ended_well
  done
}

choose
set_up
case $phase in
relay | away)
  migrate_again
  remember_sources
  for ((n = 1 + RANDOM % 3; n > 0; n--)); do
    echo "met $phase $victim $fault $mode"
    ((RANDOM % 2)) || some_are_late
    after_pivot "$phase" "$victim" "$fault"
    next=
    pick next "${after_pivot[@]}"
    read -r phase victim fault <<< "$next"
    sick=$((RANDOM % disks))
  done ;;
*)
  copy_with_fault
  more_faults
  complete
  remember_sources
  [ "$finish" != pivot ] || goes_on 50 ;;
esac
"verdict_$finish"
# With a cable that was pulled it waits for clients that are no more.
for i in $(each_disk); do
  [ "$links" = unix ] || crash_bg "destination$i"
done
echo "round $seed: right"
