#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# coverage.sh: how many branches of the tracker, the state files and the relay are
# taken by the unit tests, the fuzzers' corpus, the two exhaustive tests, tests of
# what a relay and a state file meet, and some migrations in which a call fails
# (calls-fail.sh).
#
#   BUILD=DIR     where "make coverage" has built
#   AGAIN=1       nothing is run: what was counted the last time is looked at
#   ROUNDS=N      what meets a branch by chance has so many chances (default 3)
#
# Many a branch of the relay is a moment between two looks, which one run in five or
# twenty meets.  A branch counts as taken if any run takes it: where one that has no
# reason is left, it is printed, and the tests with threads run again and are counted
# on top.
#
# Left out is the other side of assertions, and what the cleanup attributes add.  Of
# all others that no test takes coverage.unreached says why: one that it does not
# name is an error, as is a line there that is none of the sources any more.  Where
# all of a line is taken all the same that is printed: it may be by chance.
#
# Exit status 1 if a test fails, or for such an error.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Whole migrations, for what only they lead to.
whole=(test-flush-tells test-kept-writes test-mark
       test-pivot-lost-destination test-pivot-moved-destination
       test-silent-destination test-state-files)

# What has threads, on top of what is counted already.
count_threads ()
{
  mapfile -t units < <(find "$BUILD/tests/unit" -type f -executable | sort)
  tests/run.sh "${units[@]}" test-fuzz-corpus "${whole[@]}"
}

count_all ()
{
  find "$BUILD" -name '*.gcda' -delete
  count_threads
  "$BUILD/tests/exhaustive" small > "$BUILD/exhaustive.log"
  for row in 4 5 6; do # the others take minutes where branches are counted
    "$BUILD/tests/exhaustive-relay" small $row > "$BUILD/exhaustive-relay.log"
  done
  CALLS='write|pwrite|fdatasync|fsync|ftruncate|rename|unlink(at)?|open(at)?' \
    JOBS=$((2 * $(nproc))) FIRST=1 SAMPLE=${SAMPLE:-4} tests/calls-fail.sh \
    > "$BUILD/calls-fail.log" 2>&1 || {
    tail -n 40 "$BUILD/calls-fail.log" >&2
    exit 1
  }
}

collect ()
{
  gcovr --root . --object-directory "$BUILD" "$BUILD" \
    --filter 'nbdkit-plugin/(tracker|state|relay)/.*\.c' --branches \
    --exclude-throw-branches --exclude-lines-by-pattern '.*\b(assert|ACQUIRE_LOCK_FOR_CURRENT_SCOPE) \(.*' \
    --json --output "$BUILD/coverage.json"
}

# Each line that has branches: FILE, number, how many were not taken, of how many,
# and what stands in it.
branches ()
{
  jq -r '.files[] | .file as $f | .lines[] | select(.branches | length > 0) |
         [$f, .line_number, (.branches | map(select(.count == 0)) | length),
          (.branches | length)] | @tsv' "$BUILD/coverage.json" |
    while IFS=$'\t' read -r file line missed all; do
      [ "$file" = "${last:-}" ] || mapfile -t -O 1 text < "$file"
      last=$file
      printf '%s\t%s\t%s\t%s\t%s\n' "${file#nbdkit-plugin/}" "$line" "$missed" \
        "$all" "${text[line]//$'\t'/ }"
    done
}

# What is not taken, and why: prints that, and the sums; 1 if a reason is missing.
look ()
{
  branches > "$BUILD/branches"
  echo
  awk -F '\t' '
    # What is not taken, and why: "FILE: LINE # REASON".
    FILENAME == ARGV[1] {
      if ($0 ~ /^(#|$)/)
        next
      if (!match($0, / # /)) {
        print "coverage.unreached: no reason: " $0
        bad = 1
        next
      }
      reason[substr($0, 1, RSTART - 1)]
      next
    }
    {
      sub(/^ +/, "", $5)
      key = $1 ": " $5
      split($1, path, "/")
      folder = path[1]
      all[folder] += $4
      taken[folder] += $4 - $3
      if (key in reason) {
        there[key]
        left[key] += $3
        unreached[folder] += $3
      }
      else if ($3 > 0) {
        print "not taken, and coverage.unreached does not say why: " key \
          " (line " $2 ", " $3 " of " $4 ")"
        bad = 1
      }
    }
    END {
      for (key in reason)
        if (!(key in there)) {
          print "coverage.unreached: it is not there: " key
          bad = 1
        }
        else if (left[key] == 0)
          print "taken, although coverage.unreached says why not: " key | "sort"
      close("sort")
      for (folder in all)
        printf "%s: %d of %d branches are taken, %.1f %%; of %d others the reason is known\n",
          folder, taken[folder], all[folder], 100 * taken[folder] / all[folder],
          unreached[folder] | "sort"
      close("sort")
      exit bad
    }' tests/coverage.unreached "$BUILD/branches"
}

if [ -z "${AGAIN:-}" ]; then
  count_all
  collect
fi
round=1
until look > "$BUILD/looked"; do
  cat "$BUILD/looked"
  if [ -n "${AGAIN:-}" ] || [ $((round++)) -ge "${ROUNDS:-3}" ] ||
    ! grep -q '^not taken' "$BUILD/looked"; then
    exit 1
  fi
  echo "once more, for what is taken by chance (round $round)"
  count_threads
  collect
done
cat "$BUILD/looked"
