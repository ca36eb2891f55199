#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# row.sh ROW: measure one row (run.sh says how, and with which variables).  Its
# runs go to $OUT/ROW.jsonl, a JSON object each.

set -euo pipefail

TMPDIR=${BENCH_DIR:-/dev/shm}
[ -d "$TMPDIR" ] || TMPDIR=/var/tmp
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/bench/rows.sh
source "$SRCDIR/tests/bench/rows.sh"
# shellcheck source=tests/bench/servers.sh
source "$SRCDIR/tests/bench/servers.sh"
# shellcheck source=tests/bench/programs.sh
source "$SRCDIR/tests/bench/programs.sh"
# shellcheck source=tests/bench/shuffle.sh
source "$SRCDIR/tests/bench/shuffle.sh"
requires nbdkit jq

row=$1
rounds=${ROUNDS:-5}
runs=$OUT/$row.jsonl

# One copy, from new servers to a new destination.
run_once ()
{
  local round=$1 program=$2

  start_destination
  start_source "$program"
  command_for "$program"
  "$BUILD/tests/measure" "$tmp/result" "source=${pids[source]}" \
    "destination=${pids[destination]}" -- "${command[@]}" \
    > "$tmp/$program.out" 2> "$tmp/$program.log" || fail "$program: $?"
  must_be_copied
  grep -h '"event": *"completed"' "$tmp/$program.out" > "$tmp/completed" || :
  jq -c --arg row "$row" --arg program "$program" --argjson round "$round" \
    --slurpfile completed "$tmp/completed" \
    '{row: $row, program: $program, round: $round} + . +
     if $completed == [] then {} else {completed: $completed[0]} end' \
    "$tmp/result" >> "$runs"
  stop_source
  stop_destination
}

describe_row "$row"
installed_programs
echo "== $row: $work, $rounds rounds of ${programs[*]}"
make_source
: > "$runs"
SECONDS=0
for ((round = 0; round <= rounds; round++)); do # the first is the warm-up
  shuffle "${programs[@]}"
  for program in "${shuffled[@]}"; do
    run_once "$round" "$program"
  done
done
echo "($SECONDS s)"
