#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# A longer pause is allowed after some time only (--max-pause-late, --patience):
# it is told, and the pause is one that would not have fitted before.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
requires nbdkit jq

start_proxy proxy --filter=rate memory $outrun_bytes "${outrun_source[@]}" \
  migrate-max-gate=30s
start_nbdkit destination memory $outrun_bytes
start_guest guest "$(uri proxy)" "${outrun_guest[@]}"
must_migrate --finish=detach --converge=off "${outrun_copy[@]}" \
  --max-pause-late=30s --patience=2s "$(uri proxy)" "$(uri destination)"
verify_cut guest "$(uri destination)"
guest_goes_on guest
must_have_told max-pause 'did not fit for 2.0 s: it may be 30.0 s long now, not 300 ms'

# all DECISION EXPRESSION: of such events, and there is one.
all ()
{
  [ "$(event "map(select(.event == \"policy\" and .decision == \"$1\")) |
        length > 0 and all($2)")" = true ] ||
    fail "$1: not $2: $(grep policy "$tmp/events")"
}

late=$(event 'map(select(.event == "policy" and .decision == "max-pause").time)[0]')
all pause ".time > $late and .predicted_pause_ms > 300 and .max_pause_ms == 30000"
all round "(.time < $late) == (.max_pause_ms == 300)"
must_have_status "$(uri proxy)" '.last_pause_us > 0'

echo "-- a shorter pause that is asked for then does not count, which is said"
start_migrate --finish=detach --converge=off "${outrun_copy[@]}" \
  --max-pause-late=301ms --patience=2s "$(uri proxy)" "$(uri destination)"
wait_for has_event started
wait_for has_told max-pause 'did not fit for 2.0 s: it may be 301 ms long now'
"$nbdmigrate" set "$(uri proxy)" max-pause=200ms
wait_for grep -q -- '--max-pause is now 200 ms, but the pause may still be 301 ms long' \
  "$tmp/migrator.log"
must_have_status "$(uri proxy)" '.progress.max_pause_ms == 301'
kill_bg migrator TERM
expect_status 3 wait_bg migrator
