# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# A migration whose destination is lost, and comes back.  Sourced after
# tests/functions.sh.

# has_events NAME N: so many of them.
has_events ()
{
  local n

  n=$(grep -c "\"event\":\"$1\"" "$tmp/events" 2> /dev/null) || :
  ((${n:-0} >= $2)) && return
  is_running "${pids[migrator]}" || fail "the migrator ended without $1"
  return 1
}

# lose NAME...: these servers are killed, and that is noticed.
losses=0
lose ()
{
  local name

  losses=$((losses + $#))
  for name; do
    crash_bg "$name"
  done
  wait_for has_events lost $losses
}

# must_end STATUS TEXT: the migrator ends so, says that, and in the end that the
# source is authoritative.
must_end ()
{
  expect_status "$1" wait_bg migrator
  grep -qE -- "$2" "$tmp/migrator.log" || fail "it does not say: $2"
  tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative' ||
    fail "its last line does not tell who is authoritative"
  losses=0
}
