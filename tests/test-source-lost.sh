#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# What a server behind the source loses, although the destination has it, is copied
# again as it is there then (R14): in the migration that is under way, in the next
# one, and after a restart of the proxy.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/source-lost.sh
source "$SRCDIR/tests/source-lost.sh"
requires nbdkit jq nbdcopy
nbdkit nbd --dump-plugin > "$tmp/dump" 2>&1 || skip "nbdkit has no nbd plugin"

for way in finish_it restart_proxy share_one; do
  echo "-- $way"
  "$way" || fail "the sides differ"
done

echo "-- the next one, after a detach"
in_sync_and_lost
kill_bg migrator INT
expect_status 3 wait_bg migrator
must_migrate --finish=detach "$S" "$D"
nbdcopy "$tmp/block" "$S"
crash_bg remote
start_remote
must_migrate --finish=detach --incremental "$S" "$D"
[ "$(completed copied_bytes)" -lt $size ] || fail "all was copied again"
judge 0 || fail "the sides differ"

echo "-- nothing is said, and nothing copied, where nothing is lost"
rm -rf "$tmp/proxy.dir"
start_remote
start_middle
start_nbdkit destination file "$tmp/destination"
must_migrate --finish=detach "$S" "$D"
wait_for is_unmarked
must_migrate --finish=detach --incremental "$S" "$D"
[ "$(completed copied_bytes)" -eq 0 ] || fail "something was copied again"
! grep -q 'has failed a connection' "$tmp/proxy.log" || fail "it was said"
judge 0 || fail "the sides differ"
