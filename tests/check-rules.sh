#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/rules.md against the sources: each place that a rule names exists, says
# the rule's number and has the function; each test exists, each planted bug is
# built; and each number that a source names is a rule.

set -euo pipefail
cd "$(dirname "$0")/.."
rules=docs/rules.md
status=0

wrong ()
{
  echo "$rules: $*" >&2
  status=1
}

# The lines of one rule's list: "KEPT|ATTACKED NUMBER TEXT", one line each.
places ()
{
  awk '
    /^## R[0-9]+a?\. / { n = $2; sub (/\./, "", n); kind = "" }
    /^## [^R]/ { n = "" }
    /^- kept in:/ { kind = "kept" }
    /^- attacked by:/ { kind = "attacked" }
    /^$/ { kind = "" }
    n != "" && kind != "" {
      while (match ($0, /`[^`]+`/)) {
        print kind, n, substr ($0, RSTART + 1, RLENGTH - 2)
        $0 = substr ($0, RSTART + RLENGTH)
      }
    }' "$rules"
}

# A path, or a function of the file named last.
check_kept ()
{
  if [[ $2 == */* ]]; then
    file=$2
    if [ ! -f "$file" ]; then
      wrong "$1: there is no $file"
    elif ! grep -qE "\\b$1\\b" "$file"; then
      wrong "$1: $file does not name it"
    fi
  elif [ -f "$file" ] && ! grep -qE "\\b$2 \\(" "$file"; then
    wrong "$1: $file has no $2"
  fi
}

# A path, or a planted bug.
check_attacked ()
{
  if [[ $2 == */* ]]; then
    [ -f "$2" ] || wrong "$1: there is no $2"
  else
    grep -qE "^PLANTED_.*\\b$2\\b|^ .*\\b$2\\b" tests/tests.mk ||
      wrong "$1: no bug $2 is planted"
  fi
}

while read -r kind number text; do
  case $kind in
  kept) check_kept "$number" "$text" ;;
  attacked) check_attacked "$number" "$text" ;;
  esac
done < <(places)

while read -r number; do
  grep -q "^## $number\\. " "$rules" ||
    wrong "a source names $number, which is no rule"
done < <(grep -rhoE '\bR[0-9]+a?\b' lib migrator nbdkit-plugin \
           --include='*.[ch]' | sort -u)

exit $status
