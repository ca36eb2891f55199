# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2119,SC2120,SC2154
#
# nbdmigrate in a round of the campaign: its runs, and what it ends with and says
# against who owns the disks.  Sourced after parts.sh; needs $finish, $policy and
# $migrator, its options, too.

# ---- the migrator --------------------------------------------------------------

moving=() # the disks that it moves

migrates ()
{
  [ -n "${pids[migrator]:-}" ] && is_child "${pids[migrator]}"
}

# start_the_migrator OPTION...: of all disks that are where they were.
start_the_migrator ()
{
  local i pairs=()

  moving=()
  for i in $(each_disk); do
    is_moved "$i" && continue
    moving+=("$i")
    pairs+=("$(S "$i")" "$(D "$i")")
  done
  LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/hurry-preload.so \
    HURRY=$hurry_by HURRY_ARM=$hurry here start_migrate --max-pause=4s \
    --finish="$finish" "${migrator[@]}" "$@" "${pairs[@]}"
}

# ---- who has what ---------------------------------------------------------------

any_disk ()
{
  local i

  for i in $(each_disk); do
    ! has_status "$tmp/proxy$i.dir" "$1" || return 0
  done
  return 1
}

no_session ()
{
  ! any_disk '.session == true'
}

owner_of ()
{
  status_of "$tmp/proxy$1.dir" .owner 2> "$tmp/status.log" || echo none
}

declare -A owner_after=([pivot]=destination [handover]=fenced [detach]=source)

# A detach moves nothing.
is_moved ()
{
  [ "$finish" != detach ] && [ "$(owner_of "$1")" = "${owner_after[$finish]}" ]
}

all_moved ()
{
  local i

  for i in $(each_disk); do
    is_moved "$i" || return 1
  done
}

# judge_disk DISK STATUS LINE: what nbdmigrate ended with, and what it said last
# about the disk, against the owner.
judge_disk ()
{
  local owner

  owner=$(owner_of "$1")
  case $2:$owner in
  0:"${owner_after[$finish]}" | [134]:source | 5:source | 5:"${owner_after[$finish]}") ;;
  *) fail "disk $1: exit status $2, and the owner is $owner" ;;
  esac
  case $3 in
  *"source $(S "$1") is"*authoritative*) [ "$owner" = source ] ;;
  *"destination $(D "$1") is authoritative"*)
    [ "$owner" = destination ] || [ "$owner" = fenced ] ;;
  *"nothing was done to"*) [ "$2" -eq 1 ] || [ "$2" -eq 3 ] ;;
  *"not known"*) [ "$2" -eq 5 ] ;;
  *) false ;;
  esac || fail "disk $1: the owner is $owner, and it says: $3"
}

# judge_end STATUS MAY-BE-UNKNOWN: unless it was killed.
judge_end ()
{
  local i lines

  [ "$1" -ne 137 ] || return 0
  [ "$1" -ne 5 ] || "$2" || fail "exit status 5, and all could have been asked"
  mapfile -t lines < <(tail -n ${#moving[@]} "$tmp/migrator.log")
  for i in "${!moving[@]}"; do
    judge_disk "${moving[i]}" "$1" "${lines[i]:-nothing}"
  done
}

# ---- its end -----------------------------------------------------------------

# is_in PHASE: or it has ended, as in what follows.
last_phase ()
{
  grep '^{"event": *"phase".*}$' "$tmp/events" | tail -n 1 |
    sed 's/.*"phase": *"\([a-z]*\)".*/\1/'
}

is_in ()
{
  ! migrates || [ "$(last_phase)" = "$1" ]
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

# signal_guest SIGNAL: if it outruns the copy and is there.
signal_guest ()
{
  [ "$policy" = off ] || [ -z "${pids[guest]:-}" ] || kill_bg guest "$1" || :
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
