# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2154
#
# What the campaign does to the parts of a round, and how they come back.  Sourced
# after parts.sh.
#
# Each fault is a function VICTIM_FAULT; $sick is the disk whose part it is.  What is
# left to be done when the migrator has ended is in $afterwards.

afterwards=()

# slay NAME: kill -9.
slay ()
{
  echo "kill $1"
  crash_bg "$1"
}

tells_of_collapse ()
{
  grep -q 'connections\.c:.* raw_send_socket: Assertion' "$tmp/$1.log"
}

# collapses STATUS NAME: nbdkit before 1.34 may end when a client is killed, or cut
# off, with answers on their way.
collapses ()
{
  [ "$1" -eq 134 ] && [[ $(nbdkit --version) =~ ^nbdkit\ 1\.([0-9]+) ]] &&
    ((BASH_REMATCH[1] < 34)) && tells_of_collapse "$2"
}

# has_collapsed NAME: nothing else may end by itself.
has_collapsed ()
{
  local status=0

  ! is_child "${pids[$1]}" || return 1
  wait_bg "$1" || status=$?
  collapses $status "$1" || fail "$1 ended by itself with exit status $status"
  echo "collapse $1"
}

# What was not flushed by then may be gone.
forget_cache ()
{
  lost_cache=(--lost-cache)
}

# revive: whatever has collapsed.
revive ()
{
  local i

  for i in $(each_disk); do
    if [ -n "${pids[proxy$i]:-}" ] && has_collapsed "proxy$i"; then
      forget_cache
      start_the_proxy "$i"
    fi
    if [ -n "${pids[destination$i]:-}" ] && has_collapsed "destination$i"; then
      forget_cache
      start_destination "$i"
    fi
  done
}

# What is held back goes on.
let_go ()
{
  : > "$tmp/go"
  [ ! -d "$tmp/source$sick.cue" ] || go "source$sick" go
}

# All is there again.
restore ()
{
  local what i

  let_go
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

# Longer than the limits.  Afterwards a proxy takes the destination for one that may
# answer as late again, and waits for such answers.
patient=false
outage ()
{
  patient=true
  : > "$hurry"
  sleep "$outage_seconds" # this is the event
  rm "$hurry"
}

# suspend NAME [COMMAND...]: stopped for longer than the limits; what must be true
# meanwhile.
suspend ()
{
  local name=$1

  shift
  echo "stop $name"
  kill_bg "$name" STOP || return 0
  outage
  (($# == 0)) || "$@"
  kill_bg "$name" CONT
}

# ---- the guest ------------------------------------------------------------------

guest_kill ()
{
  slay guest
}

guest_stop ()
{
  suspend guest
}

guest_eio ()
{
  cue "source$sick" "write,zero fail count=$((1 + RANDOM % 4))"
  for_a_while
}

# ---- the migrator ---------------------------------------------------------------

migrator_kill ()
{
  slay migrator
}

migrator_stop ()
{
  suspend migrator
}

migrator_term ()
{
  kill_bg migrator TERM || :
}

# ---- the proxy ------------------------------------------------------------------

restart_proxy ()
{
  bury_guest
  [ "$source_cache" = file ] || forget_cache
  revive
  start_the_proxy "$sick"
}

proxy_kill ()
{
  # In the commit it has killed itself.
  echo "kill proxy$sick"
  crash_bg "proxy$sick"
  if ((RANDOM % 2)); then restart_proxy; else afterwards+=(restart_proxy); fi
}

proxy_term ()
{
  kill_bg "proxy$sick" TERM
  : > "$tmp/go" # it waits for its work on the state file
  end_bg "proxy$sick"
  if ((RANDOM % 2)); then restart_proxy; else afterwards+=(restart_proxy); fi
}

proxy_stop ()
{
  suspend "proxy$sick"
}

# Its state files cannot be written: start_crashing has seen to that.
proxy_enospc ()
{
  :
}

proxy_eio ()
{
  cue "source$sick" "read fail count=$((1 + RANDOM % 4))"
}

# ---- the destination ------------------------------------------------------------

restart_destination ()
{
  start_destination "$sick"
}

# After a pivot the guest waits for it.
destination_kill ()
{
  local how

  slay "destination$sick"
  pick how now later afterwards
  case $how:$phase in
  later:relay) wait_for any_disk '.relay.up == false' ;;
  later:*) ! migrates || for_a_while ;; # else the guest waits for it
  esac
  if [ "$how:$reconnect" = afterwards:0 ] && [ "$phase" != relay ]; then
    afterwards+=(restart_destination)
  else
    restart_destination
  fi
}

# Until the commit the guest must not mind.
destination_stop ()
{
  if [ "$phase" = relay ] || [ "$phase" = commit ]; then
    suspend "destination$sick"
  else
    suspend "destination$sick" goes_on_or_moves 20
  fi
}

destination_cut ()
{
  echo "cut"
  pull there
  case $phase in
  relay) [ $((RANDOM % 2)) -eq 0 ] || wait_for any_disk '.relay.up == false' ;;
  commit) ;;
  *) goes_on_or_moves $((RANDOM % 100)) ;;
  esac
  plug there
}

destination_enospc ()
{
  cue "destination$sick" "write,zero fail errno=ENOSPC count=$((1 + RANDOM % 4))"
}

destination_eio ()
{
  local kinds

  pick kinds 'write,zero' flush read 'write,zero,flush,read'
  cue "destination$sick" "$kinds fail count=$((1 + RANDOM % 4))"
}

# ---- proxy and destination ------------------------------------------------------

restart_both ()
{
  restart_destination
  forget_cache
  restart_proxy
}

both_kill ()
{
  if ((RANDOM % 2)); then
    slay "proxy$sick"
    slay "destination$sick"
  else
    slay "destination$sick"
    slay "proxy$sick"
  fi
  afterwards+=(restart_both)
}
