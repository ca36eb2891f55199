#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# coverage.sh: how many branches of the tracker, the state files and the relay are
# taken by the unit tests, the fuzzers' corpus and the exhaustive test.  What only
# whole migrations do is not seen here.
#
#   BUILD=DIR     where "make coverage" has built
#   MISSED=1      also which lines have branches that are not
#
# Left out is what no test can take: the other side of assertions, and of what the
# cleanup attributes add.  Exit status 1 if a test fails.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find "$BUILD" -name '*.gcda' -delete
mapfile -t units < <(find "$BUILD/tests/unit" -type f -executable | sort)
tests/run.sh "${units[@]}" test-fuzz-corpus
"$BUILD/tests/exhaustive" small > "$BUILD/exhaustive.log"

report=(gcovr --root . --object-directory "$BUILD" "$BUILD"
        --filter 'nbdkit-plugin/(tracker|state|relay)/.*\.c' --branches
        --exclude-throw-branches
        --exclude-lines-by-pattern '.*\bassert \(.*')
"${report[@]}" --json-summary-pretty --output "$BUILD/coverage.json"
[ -z "${MISSED:-}" ] || "${report[@]}"
echo
jq -r '[.files[] | {folder: (.filename | split("/")[1]), all: .branch_total,
                    taken: .branch_covered}] | group_by(.folder)[] |
       {folder: .[0].folder, all: (map(.all) | add),
        taken: (map(.taken) | add)} |
       "\(.folder): \(.taken) of \(.all) branches, " +
       "\(.taken * 100 / .all | floor) %"' "$BUILD/coverage.json"
