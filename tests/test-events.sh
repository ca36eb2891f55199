#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The JSON events have the members that the manual promises, of the right type,
# and come in order: started, phases, pause, completed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

start_proxy proxy memory 4M
start_nbdkit destination memory 4M
fill "$(uri proxy)" 50
start_guest guest "$(uri proxy)" --initial "$pattern"

# events_are EXPRESSION: jq over all events as an array, must be true; looked at by
# check_events.
expressions=()
events_are ()
{
  expressions+=("$1")
}

# All at once, as it is jq's start that takes its time.  After one that fails there
# is nothing.
check_events ()
{
  local i results

  mapfile -t results < <(event "$(printf '(%s),' "${expressions[@]}") true")
  for i in "${!expressions[@]}"; do
    [ "${results[i]:-}" = true ] ||
      fail "not so: ${expressions[i]} in $(cat "$tmp/events")"
  done
  expressions=()
}

# has EVENT MEMBER:TYPE...: in each of them, and there is at least one.
has ()
{
  local name=$1 pair

  shift
  events_are "any(.event == \"$name\")"
  for pair; do
    events_are "map(select(.event == \"$name\")) |
      all(.[] | .${pair%:*} | type; IN(\"${pair#*:}\"))"
  done
}

common=(disks:array disk_bytes:number copied_bytes:number zeroed_bytes:number
        skipped_bytes:number passes:number pause_ms:number duration_ms:number
        finish:string max_pause_ms:number rate:number resumed:boolean
        dropped_events:number)

echo "-- a migration that works"
must_migrate --finish=detach --rate=3M "$(uri proxy)" "$(uri destination)"
stop_guest guest
events_are 'all(.event | type == "string")'
events_are 'map(.time) | . == sort'
events_are "all(.time > $(date +%s) - 300)"
has started disks:array disk_bytes:number finish:string max_pause_ms:number \
  rate:number
events_are '.[0].disks | length == 1 and (.[0].source | type == "string") and
            (.[0].destination | type == "string") and
            .[0].chunk_bytes == 4096 and .[0].resumed == false'
has phase phase:string pass:number remaining_bytes:number
has progress phase:string pass:number percent:number copied_bytes:number \
  remaining_bytes:number bytes_per_second:number \
  dirty_bytes_per_second:number finish:string max_pause_ms:number rate:number \
  wait:boolean disk_count:number guest_latency:object
events_are 'map(select(.event == "progress").guest_latency) |
            any(.writes > 0 and .writes_us > 0 and .writes_99_us > 0)'
events_are 'map(select(.event == "progress")) |
            all((.wait | not) and .disk_count == 1)'
has pause begin_time:number end_time:number pause_ms:number result:string \
  steps_ms:object remaining_bytes:number
has completed "${common[@]}"
events_are '.[0].event == "started" and .[-1].event == "completed"'
events_are '[.[] | select(.event == "phase").phase] |
            .[0] == "bulk" and (index("final") != null)'
events_are 'map(select(.event == "phase")) |
            .[-1].phase == "done" and .[-1].remaining_bytes == 0'
# shellcheck disable=SC2016
events_are '(.[-1].passes) as $n | map(select(.event == "phase"))[-1].pass == $n'
events_are 'map(select(.event == "pause"))[-1] |
            .result == "committed" and .begin_time <= .end_time and
            .pause_ms <= (.end_time - .begin_time) * 1000 + 1'
events_are 'map(select(.event == "pause"))[-1] |
            (.steps_ms | keys_unsorted) ==
              ["hold", "copy", "flush", "check", "commit", "release"] and
            (.pause_ms - (.steps_ms | add) | fabs) < 0.01'
# shellcheck disable=SC2016
events_are '(map(select(.event == "pause"))[-1].pause_ms) as $pause |
            map(select(.event == "completed"))[-1].pause_ms == $pause'
! grep -E '"(pause_ms|time|begin_time|end_time)": *[0-9]*\.[0-9]{6}' \
  "$tmp/events" || fail "digits that mean nothing are printed"
events_are '.[-1].finish == "detach" and .[-1].disk_bytes == 4194304'
[ "$(grep -c . "$tmp/events")" -eq "$(event length)" ] ||
  fail "some lines are no JSON objects"
check_events

echo "-- one that fails"
end_bg destination
start_nbdkit destination --filter=error memory 4M error-pwrite=EIO \
  error-pwrite-rate=100%
expect_status 1 migrate --finish=detach "$(uri proxy)" "$(uri destination)"
has failed "${common[@]}" status:number error:string
events_are '.[-1].event == "failed" and .[-1].status == 1'
check_events
