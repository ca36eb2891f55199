#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A disk is migrated while a guest writes to it, and the proxy then fences the
# guest off: the destination holds all that was acknowledged, and what the
# guest was refused may hold either version.  A guest at the destination goes
# on from there.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

truncate -s $((64 * 1024 * 1024 + 4321)) "$tmp/source" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
fill "$(uri proxy)" 60
start_guest guest "$(uri proxy)" --initial "$pattern" --expect-shutdown

must_migrate --finish=handover "$(uri proxy)" "$(uri destination)"
wait_bg guest || fail "the guest ended with exit status $?"
jq . "$tmp/guest.out"
[ "$(jq -r .ended "$tmp/guest.out")" = shutdown ]
[ "$(completed finish)" = handover ]
verify_final guest "$(uri destination)"

echo "-- the fence holds, for reads too"
expect_status 1 nbdcopy "$(uri proxy)" null: 2> "$tmp/fence.log"
"$nbdmigrate" status --json "$(uri proxy)" | tee "$tmp/status"
[ "$(jq -r .owner "$tmp/status")" = fenced ]

echo "-- a guest at the destination"
"$referee" run --uri "$(uri destination)" --log "$tmp/guest.record" --resume \
  --ops 2000
verify_final guest "$(uri destination)"

echo "-- it is not brought back over that guest's head"
expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" owner=destination \
  2> "$tmp/reopen.log"
grep -qF "handed over to a guest elsewhere" "$tmp/reopen.log"

echo "-- a list tells where it went"
listed ()
{
  "$nbdmigrate" list > "$tmp/list" &&
    grep -F "$tmp/proxy.dir  to $(uri destination)" "$tmp/list"
}
wait_for listed

echo "-- there is nothing left to cancel"
expect_status 1 "$nbdmigrate" cancel "$(uri proxy)" 2> "$tmp/cancel.log"
grep -qF "was handed over" "$tmp/cancel.log"
grep -qF "$(uri destination)" "$tmp/cancel.log"
"$nbdmigrate" status --json "$(uri proxy)" | jq -e '.owner == "fenced" and
  .last_end == "handed-over"' > "$tmp/jq.out"
