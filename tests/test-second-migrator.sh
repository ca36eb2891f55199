#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two migrations never share a disk: the second is refused, writes nothing to
# its destination and does not disturb the first (R16).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

start_proxy proxy memory 16M
start_nbdkit destination memory 16M
start_nbdkit other --filter=log memory 16M logfile="$tmp/other.requests"
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 1M

# It waits, however long the others take.
start_migrate --wait --finish=detach --rate=8M "$(uri proxy)" "$(uri destination)"
wait_for has_event progress
for destination in other destination; do
  expect_status 1 "$nbdmigrate" --finish=detach "$(uri proxy)" \
    "$(uri $destination)" 2> "$tmp/second.log"
  cat "$tmp/second.log"
  grep -q 'another migration' "$tmp/second.log"
done
if grep -E ' (Write|Zero|Trim) ' "$tmp/other.requests"; then
  fail "something was written to the other destination"
fi
"$nbdmigrate" finish "$(uri proxy)" 2> "$tmp/finish.log"
wait_bg migrator || fail "the first migration ended with exit status $?"
verify_cut guest "$(uri destination)"
stop_guest guest
