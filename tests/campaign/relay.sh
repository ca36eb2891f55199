# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2154
#
# Faults after a pivot, when the destination serves the guest through the proxy: in a
# round of the campaign, and in test-kill-rounds.  Sourced after faults.sh.

# after_pivot PHASE VICTIM FAULT: "relay", or "away": the destination is gone before.
after_pivot ()
{
  phase=$1 victim=$2 fault=$3
  if [ "$1" = away ]; then
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
  # What the proxy that was killed had passed on is in the destination's cache only, and
  # gone if that is killed next.
  case $victim:$fault in
  proxy:kill | both:kill) patiently everything_is_flushed ;;
  esac
}

# some_are_late: of what is under way, so that the fault meets it.
some_are_late ()
{
  cue "destination$sick" "write late ms=$((RANDOM % 200)) count=$((RANDOM % 8))" \
    "flush late ms=$((RANDOM % 100)) count=$((RANDOM % 2))"
}
