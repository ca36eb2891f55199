#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 300
#
# All schedules of a few requests with what a migration does and what befalls it,
# within small bounds (tests/exhaustive/world.h): the tracker loses nothing, and
# each rule broken on purpose is found out.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"

"$BUILD/tests/exhaustive" small

bugs=$(sed -n '/^PLANTED_TRACKER_BUGS :=/,/[^\\]$/p' "$SRCDIR/tests/tests.mk" |
         sed 's/^.*:=//; s/\\//' | xargs)
[ -n "$bugs" ] || fail "there is no list of broken rules"
for bug in $bugs; do
  program=$BUILD/bug-$bug/tests/exhaustive
  [ -e "$program" ] || skip "$bug was not built: make planted-bugs"
  "$program" small > "$tmp/$bug.out" && fail "$bug was not found out"
  verdict=$(grep '^exhaustive: ' "$tmp/$bug.out") ||
    fail "$bug: no verdict: $(tail -n 3 "$tmp/$bug.out")"
  echo "$bug: in $(grep -c '^  ' "$tmp/$bug.out") steps: ${verdict#exhaustive: }"
done
