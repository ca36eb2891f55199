#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 300
#
# All schedules of a few guest requests through the relay with what befalls its
# destination and the proxy, within small bounds (tests/exhaustive-relay/world.h):
# nothing that was acknowledged is lost or undone, and each rule broken on purpose
# is found out.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
[ -z "${SANITIZER:-}" ] || skip "a sanitizer knows nothing of threads that are made here"

"$BUILD/tests/exhaustive-relay" small

bugs=$(sed -n '/^PLANTED_RELAY_BUGS :=/,/[^\\]$/p' "$SRCDIR/tests/tests.mk" |
         sed 's/^.*:=//; s/\\//' | xargs)
[ -n "$bugs" ] || fail "there is no list of broken rules"
for bug in $bugs; do
  program=$BUILD/bug-$bug/tests/exhaustive-relay
  [ -e "$program" ] || skip "$bug was not built: make planted-bugs"
  "$program" small > "$tmp/$bug.out" && fail "$bug was not found out"
  verdict=$(grep '^exhaustive-relay: ' "$tmp/$bug.out") ||
    fail "$bug: no verdict: $(tail -n 3 "$tmp/$bug.out")"
  echo "$bug: in $(grep -c '^  ' "$tmp/$bug.out") steps: ${verdict#exhaustive-relay: }"
done
