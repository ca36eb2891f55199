#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A filter that does not make what was not flushed dirty again when the
# destination is lost (R6a) is caught by one that loses it, and the filter as it
# is passes the same run.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq
with_bug=$BUILD/bug-lost_keeps_unflushed/nbdkit-migrate-filter.so
[ -e "$with_bug" ] || skip "lost_keeps_unflushed was not built: make planted-bugs"

start_lossy ()
{
  start_nbdkit destination "$BUILD/tests/nbdkit-lossy-plugin.so" \
    file="$tmp/lossy"
}

# Whether the copy is right after a loss in the bulk pass.
run ()
{
  local result=0

  rm -rf "$tmp/proxy.dir" "$tmp/lossy"
  truncate -s 8M "$tmp/lossy"
  start_proxy proxy memory 8M
  fill "$(uri proxy)" 90
  start_lossy
  start_migrate --finish=detach --rate=2M "$(uri proxy)" "$(uri destination)"
  wait_for has_status "$(uri proxy)" ".unflushed_bytes > 1000000"
  lose destination
  start_lossy
  "$nbdmigrate" set "$(uri proxy)" rate=100M
  wait_bg migrator || result=$?
  if [ $result -eq 0 ]; then
    (same_content "$(uri proxy)" "$(uri destination)") > "$tmp/verdict" 2>&1 ||
      result=1
  fi
  cat "$tmp/migrator.log"
  end_bg proxy
  end_bg destination
  losses=0
  return $result
}

echo "-- the filter as it is"
run || fail "it is not right"

echo "-- the bug"
filter=$with_bug
run && fail "nobody has noticed"
grep -q 'does not hold what\|differ' "$tmp/migrator.log" "$tmp/verdict"
