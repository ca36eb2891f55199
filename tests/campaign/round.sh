#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# One round of the campaign: disks are moved under a guest, something is killed,
# stopped, cut off or made to fail at a random moment of a phase, it comes back, and
# the move is made again until it is done.  What nbdmigrate ends with and says is
# held against the record of who owns the disk, and the disk against the guest's
# record.
#
#   BUILD=DIR SEED=N      repeats a round
#   CASE='PHASE VICTIM FAULT'   this one, whatever the seed says
#   ONLY=REGEX            of all cases only those
#   FINISH=, DISKS=       the same
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
# shellcheck source=tests/campaign/faults.sh
source "$SRCDIR/tests/campaign/faults.sh"
# shellcheck source=tests/campaign/cases.sh
source "$SRCDIR/tests/campaign/cases.sh"
requires nbdkit jq

# The directory of a round that failed is kept.
# shellcheck disable=SC2016 # for later
at_end '[ $status -eq 0 ] || KEEP=1'

# pick VARIABLE WORD...: one of them.  (A subshell has random numbers of its own.)
pick ()
{
  local -n variable=$1
  local words=("${@:2}")

  # shellcheck disable=SC2034 # it is another one's
  variable=${words[RANDOM % ${#words[@]}]}
}

choose ()
{
  read -r phase victim fault <<< "${CASE:-${cases[seed * 53 % ${#cases[@]}]}}"
  RANDOM=$((seed * 40503 / 64 % 32768))
  pick disks 1 1 2
  pick finish pivot pivot handover detach incremental
  pick source_cache file volatile
  pick reconnect 0 30s
  disks=${DISKS:-$disks} finish=${FINISH:-$finish}
  sick=$((RANDOM % disks))
  policy=off links=unix tolerate=() migrator=()
  size=$((8 * 1024 * 1024 + 512))
  [ "$phase" != mirror ] || policy=mirror size=$outrun_bytes
  case $phase in relay | away) finish=pivot ;; esac
  [ "$fault" != cut ] || links=cable
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
    guest+=(--rate 3M --depth $((4 + RANDOM % 12)) --connections $((1 + RANDOM % 4)))
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
    2> "$tmp/finish.log" || :
}

# reach PHASE: false if the migrator has ended before.
reach ()
{
  local i

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
    for i in $(each_disk); do
      cue "destination$i" 'flush late ms=300' "write late ms=$((RANDOM % 100))"
    done
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

# is_over_or PHASE
is_over_or ()
{
  ! migrates || is_in "$1"
}

is_over_or_not ()
{
  ! migrates || ! is_in "$1"
}

# Where something was very late, late writes are waited for as long.  (Time does not
# run faster for longer than that: on a busy machine a session would die of it.)
end_of_migrator ()
{
  ended=137
  [ -n "${pids[migrator]:-}" ] || return 0
  if $patient; then
    WAIT_SECONDS=90 wait_for is_over_or late-writes
    WAIT_SECONDS=90 patiently wait_for is_over_or_not late-writes
  fi
  ended=0
  WAIT_SECONDS=90 wait_bg migrator || ended=$?
  echo "nbdmigrate: exit status $ended"
}

# All that still waits goes on.
restore ()
{
  local what i

  : > "$tmp/go"
  for what in "${afterwards[@]}"; do
    "$what"
  done
  afterwards=()
  revive
  for i in $(each_disk); do
    cue "destination$i"
    [ "$source_cache" = file ] || cue "source$i"
  done
}

copy_with_fault ()
{
  if ! reach "$phase"; then
    echo "missed $phase $victim $fault $mode"
  else
    echo "met $phase $victim $fault $mode"
    "${victim}_$fault"
  fi
  : > "$tmp/go"
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

# signal_guest SIGNAL: if it outruns the copy and is there.
signal_guest ()
{
  [ $policy = off ] || [ -z "${pids[guest]:-}" ] || kill_bg guest "$1" || :
}

is_done ()
{
  [ "$ended" -eq 0 ] || { [ "$finish" != detach ] && all_moved; }
}

# One more run, without a fault.  Where time has run faster it may have failed by
# that.  A guest that outruns the copy rests meanwhile.
migrate_again ()
{
  local tries=1

  ! $patient || tries=6
  ended=1
  while ! is_done; do
    ((tries-- > 0)) || fail "the next run does not work either: exit status $ended"
    signal_guest STOP
    start_the_migrator
    end_of_migrator
    signal_guest CONT
    judge_end "$ended" false
    revive
    wait_for no_session
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

# ---- after a pivot --------------------------------------------------------------

both_sides_live ()
{
  ! any_disk '.relay.up != true'
}

fault_after_pivot ()
{
  echo "met $phase $victim $fault $mode"
  if [ "$phase" = away ]; then
    slay "destination$sick"
    [ $((RANDOM % 2)) -eq 0 ] || wait_for any_disk '.relay.up == false'
    [ "$victim:$fault" != proxy:kill ] || forget_cache
    afterwards+=(restart_destination)
  else
    for_a_while
  fi
  "${victim}_$fault"
  restore
  guest_lives || bury_guest
  patiently resume_guest
  patiently goes_on 50
}

# ---- the verdict ----------------------------------------------------------------

uris_of ()
{
  local i

  for i in $(each_disk); do
    "$1" "$i"
  done
}

# The sources do not change any more once they are not the owners.
remember_sources ()
{
  [ "$finish:$source_cache" = pivot:file ] || return 0
  sha256sum "$tmp"/source?.img > "$tmp/sources"
}

verdict_pivot ()
{
  stop_guest guest
  if [ "$source_cache" = file ]; then
    sha256sum --quiet -c "$tmp/sources" || fail "a source was written to after its pivot"
  fi
  mapfile -t all < <(uris_of S)
  verify_all_final guest "${all[@]}"
  for i in $(each_disk); do
    end_bg "proxy$i"
  done
}

verdict_handover ()
{
  for i in $(each_disk); do
    [ "$(owner_of "$i")" = fenced ] || fail "disk $i is served"
  done
}

# A copy of one instant; and with nothing written meanwhile both sides are equal.
verdict_detach ()
{
  mapfile -t all < <(uris_of D)
  here verify_one_instant guest "${all[@]}" || fail "no copy of one instant"
  stop_guest guest
  mapfile -t all < <(uris_of S)
  verify_all_final guest "${all[@]}"
  migrator+=(--incremental)
  migrate_again
  for i in $(each_disk); do
    cmp "$tmp/source$i.img" "$tmp/destination$i.img" || fail "disk $i: they differ"
  done
}

choose
set_up
case $phase in
relay | away)
  migrate_again
  remember_sources
  for ((n = 1 + RANDOM % 3; n > 0; n--)); do
    fault_after_pivot
    next=
    pick next "${after_pivot[@]}"
    read -r phase victim fault <<< "$next"
    sick=$((RANDOM % disks))
  done ;;
*)
  copy_with_fault
  complete
  remember_sources
  [ "$finish" != pivot ] || goes_on 50 ;;
esac
"verdict_$finish"
if [ "$finish" != detach ]; then
  mapfile -t all < <(uris_of D)
  here verify_all_final guest "${all[@]}"
fi
# With a cable that was pulled it waits for clients that are no more.
for i in $(each_disk); do
  [ "$links" = unix ] || crash_bg "destination$i"
done
echo "round $seed: right"
