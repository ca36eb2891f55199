#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The referee can fail: filters with a rule broken on purpose are caught within
# a bounded number of runs, by it or by what nbdmigrate looks at itself, and the filter as it is passes the same runs with
# the same seeds.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

runs=12
sound_filter=$filter
first_seed=$seed

# start SLOW-SOURCE SLOW-DESTINATION: delays per write in milliseconds make the
# windows wide that the bugs leave open.
start ()
{
  local source=$1 destination=$2

  rm -rf "$tmp/proxy.dir" "$tmp/guest.record"
  start_proxy proxy --filter=delay memory 4M wdelay="${source}ms"
  start_nbdkit destination --filter=delay memory 4M wdelay="${destination}ms"
}

guest ()
{
  start_guest guest "$(uri proxy)" --depth 16 --cells 1024 "$@"
}

stop ()
{
  end_bg proxy
  end_bg destination
}

# judge VERIFY-COMMAND...: 0 right, 1 caught.
judge ()
{
  # In a subshell, because a bad verdict ends a test.
  ("$@") > "$tmp/verdict" 2>&1 && return
  grep -q '"wrong":[1-9]' "$tmp/verdict" ||
    fail "no verdict: $(cat "$tmp/verdict")"
  return 1
}

# bug_migrates OPTION...: 0, or 1: nbdmigrate itself has caught it, when it looked
# at a sample of the destination before the cut-over.
bug_migrates ()
{
  migrate "$@" "$(uri proxy)" "$(uri destination)" && return
  grep -q 'does not hold what' "$tmp/migrate.log" ||
    fail "nbdmigrate $*: $(cat "$tmp/migrate.log")"
  cp "$tmp/migrate.log" "$tmp/verdict"
  return 1
}

# The guest's write lands after the chunk was read.  (A handover, because what is
# in flight when the pause begins may or may not be in a detached copy.)
mark_before_write ()
{
  local verdict=0

  start 20 0
  guest --expect-shutdown
  if bug_migrates --finish=handover; then
    wait_bg guest || fail "the guest ended with exit status $?"
    judge verify_final guest "$(uri destination)" || verdict=1
  else
    verdict=1
    stop_guest guest
  fi
  stop
  return $verdict
}

# The guest writes between the reading of a chunk and the end of its copy.
clear_after_read ()
{
  local verdict=0

  start 0 20
  guest
  if bug_migrates --finish=detach --max-pause=2s; then
    judge verify_cut guest "$(uri destination)" || verdict=1
  else
    verdict=1
  fi
  stop_guest guest
  stop
  return $verdict
}

# The guest's write lands after the final pass.
forget_in_flight ()
{
  local verdict=0

  start 50 0
  guest --expect-shutdown
  if bug_migrates --finish=handover; then
    wait_bg guest || fail "the guest ended with exit status $?"
    judge verify_final guest "$(uri destination)" || verdict=1
  else
    verdict=1
    stop_guest guest
  fi
  stop
  return $verdict
}

# A migrator dies with chunks under lease, and another one resumes.
drop_failed_lease ()
{
  local verdict=0

  start 0 30
  "$referee" run --uri "$(uri proxy)" --log "$tmp/guest.record" --ops 500 \
    --seed "$seed" --kinds w --cells 1024 > "$tmp/guest.out" 2>&1
  # Slow enough to be seen at work on a busy machine.
  start_migrate --finish=detach --rate=1M "$(uri proxy)" "$(uri destination)"
  wait_for has_leases
  crash_bg migrator
  if bug_migrates --finish=detach; then
    judge verify_final guest "$(uri destination)" || verdict=1
  else
    verdict=1
  fi
  stop
  return $verdict
}

has_leases ()
{
  "$nbdmigrate" status --json "$(uri proxy)" > "$tmp/status.json"
  jq -e '.leased_bytes > 0 and .unflushed_bytes > 0' "$tmp/status.json" \
    > "$tmp/jq.out"
}

# prove BUG
prove ()
{
  local bug=$1 caught=0 i

  for ((i = 1; i <= runs && caught == 0; i++)); do
    seed=$((first_seed + i))
    filter=$BUILD/bug-$bug/nbdkit-migrate-filter.so
    "$bug" > "$tmp/run.out" || caught=$i
    filter=$sound_filter
    "$bug" > "$tmp/run.out" || {
      cat "$tmp/verdict" >&2
      fail "the sound filter failed run $i of $bug"
    }
  done
  [ $caught -ne 0 ] || fail "$bug was not caught in $runs runs"
  echo "$bug: caught in run $caught"
}

for bug in mark_before_write clear_after_read forget_in_flight \
           drop_failed_lease; do
  [ -e "$BUILD/bug-$bug/nbdkit-migrate-filter.so" ] ||
    skip "$bug was not built: make planted-bugs"
  prove $bug
done
