#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The fault table of docs/reliability.md: its rows are numbered from 1 on without a
# gap, and each names tests that exist.  And each test-fault-X is named there.
# Each promise of that page's other tables has a test, and all tests that the page
# names exist.

set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/reliability.md
status=0 rows=0

wrong ()
{
  echo "$page: $*" >&2
  status=1
}

# Its lines, and nothing else: "| NUMBER | FAULT | ... | TESTS |".
table ()
{
  sed -n '/^## The fault table/,/^## /s/^| \([0-9][0-9]*\) |/\1 |/p' "$page"
}

exists ()
{
  [ -x "tests/$1.sh" ] || [ -f "tests/unit/$1.c" ]
}

while read -r number row; do
  rows=$((rows + 1))
  [ "$number" -eq $rows ] || wrong "row $number comes after row $((rows - 1))"
  names=$(tr '`' '\n' <<< "$row" | grep '^test-') ||
    wrong "row $number names no test"
  while read -r name; do
    exists "$name" || wrong "row $number: there is no $name"
  done <<< "$names"
done < <(table)
[ $rows -ge 20 ] || wrong "there are $rows rows"

# The rows of each table whose last column is "tested by".
promises ()
{
  awk '/^\| promised \|.* tested by \|$/ { inside = 1; getline; next }
       !/^\|/ { inside = 0 }
       inside' "$page"
}

while read -r row; do
  tests=${row% |} tests=${tests##* | }
  [[ $tests == *'`test-'* || $tests == *campaign* ]] ||
    wrong "no test stands behind: $(cut -c 3-80 <<< "$row")"
done < <(promises)
[ "$(promises | wc -l)" -ge 20 ] || wrong "there are $(promises | wc -l) promises"

while read -r name; do
  exists "$name" || wrong "there is no $name"
done < <(tr '`' '\n' < "$page" | grep -x 'test-[a-z0-9-]*' | sort -u)

for f in tests/test-fault-*.sh; do
  name=$(basename "$f" .sh)
  grep -q "\`$name\`" <<< "$(table)" || wrong "no row names $name"
done
exit $status
