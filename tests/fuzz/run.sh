#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Usage: BUILD=DIR [SECONDS_EACH=N] tests/fuzz/run.sh
#
# Each target of libFuzzer for so long (10 s), with its corpus in the tree as the
# beginning; then some with a bug planted, which have to be found.
# Prints executions and hours.  KEEP=DIR: what it found interesting stays there
# for the next time.  An input that breaks something is left in the current
# directory, crash-*.

set -euo pipefail
: "${BUILD:?the build directory}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
corpus=$PWD/tests/fuzz/corpus
here=$PWD
seconds=${SECONDS_EACH:-10}
tmp=$(mktemp -d "${TMPDIR:-/dev/shm}/fuzz-XXXXXX")
trap 'rm -rf "$tmp"' EXIT

executions=0
spent=0

# fuzz PROGRAM TARGET LIMIT...: what libFuzzer says is in $tmp/log.
fuzz ()
{
  local program=$1 target=$2 found=${KEEP:-$tmp}/found-$2

  shift 2
  mkdir -p "$found" "$tmp/$target"
  (cd "$tmp/$target" &&
     "$program" "$@" -timeout=60 -rss_limit_mb=2048 -print_final_stats=1 \
       -artifact_prefix="$here/" "$found" "$corpus/$target") > "$tmp/log" 2>&1
}

for program in "$BUILD"/fuzz/tests/fuzz-*; do
  target=${program##*/fuzz-}
  fuzz "$program" "$target" -max_total_time="$seconds" || {
    tail -n 40 "$tmp/log"
    echo "FAILED: $target"
    exit 1
  }
  n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$tmp/log")
  echo "$target: $n executions, $(grep -aoE 'cov: [0-9]+' "$tmp/log" |
                                    tail -n 1 | cut -d ' ' -f 2) edges"
  executions=$((executions + n))
  spent=$((spent + seconds))
done

# plant BUG TARGET: it is found, from the corpus, the same way each time.
plant ()
{
  here=$tmp KEEP=$tmp/planted
  if fuzz "$BUILD/bug-$1/tests/fuzz-$2" "$2" -seed=3 -runs=3000000; then
    echo "FAILED: the planted bug $1 was not found"
    exit 1
  fi
  grep -aqE '^SUMMARY: |Assertion' "$tmp/log" || {
    tail -n 20 "$tmp/log"
    exit 1
  }
  echo "$2, with the bug $1 planted: found after" \
       "$(sed -n 's/^stat::number_of_executed_units: *//p' "$tmp/log") executions"
}
plant kept_length kept
plant map_promise dirty-map
plant anybody_commands commands
printf 'fuzz: %d executions in %d.%02d hours\n' "$executions" \
  $((spent / 3600)) $((spent % 3600 / 36))
