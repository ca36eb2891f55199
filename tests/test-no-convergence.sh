#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A guest that writes faster than the destination takes it: the migrator gives
# up in bounded time, with exit status 4, and says which pause would have been
# needed.  With that pause it works.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

start_proxy proxy memory 2M
# Bits per second; the burst is what it takes in 0.05 s.
start_nbdkit destination --filter=rate memory 2M rate=64M burstiness=0.05
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern"

off=()
! "$nbdmigrate" --help | grep -q -- --converge || off=(--converge=off)
expect_status 4 migrate --finish=detach "${off[@]}" --max-pause=20ms \
  "$(uri proxy)" "$(uri destination)"
cat "$tmp/migrate.log"
[ "$(event 'map(select(.event == "failed")) | last | .status')" -eq 4 ]
[ "$(event 'map(select(.event == "policy")) | last | .decision')" = give-up ]
[ "$(event 'map(select(.event == "failed")) | last | .passes')" -le 30 ]
grep -qE 'pause.*[0-9]+ m?s' "$tmp/migrate.log" ||
  fail "it does not say which pause would have been needed"
tail -n 1 "$tmp/migrate.log" | grep -q 'source .* authoritative'
guest_goes_on guest

must_migrate --finish=detach "${off[@]}" --max-pause=3s \
  "$(uri proxy)" "$(uri destination)"
verify_cut guest "$(uri destination)"
stop_guest guest
verify_final guest "$(uri proxy)"
