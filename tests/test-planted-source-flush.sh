#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A filter whose flushes do not wait for those under way beside them (R13) lets a
# guest's flush lie, and test-source-flush finds it.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
with_bug=$BUILD/bug-flush_waits_for_none/nbdkit-migrate-filter.so
[ -e "$with_bug" ] ||
  skip "flush_waits_for_none was not built: make planted-bugs"

result=0
FILTER=$with_bug "$SRCDIR/tests/test-source-flush.sh" > "$tmp/out" 2>&1 ||
  result=$?
[ $result -ne 77 ] || skip "$(grep '^SKIP' "$tmp/out")"
[ $result -ne 0 ] || fail "it was not found"
grep -q '^FAILED: the guest was told: ok, not: Input/output error' \
  "$tmp/out" || fail "something else was: $(< "$tmp/out")"
echo "found $(grep -c '^--' "$tmp/out") parts into the test"
