#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Before the pause servers are asked whether they live, and samples are read
# back.  What guests write meanwhile does not wait for the pause to be copied.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

truncate -s 4M "$tmp/destination.img"
start_proxy proxy memory 4M migrate-max-gate=60s
start_late destination
fill "$(uri proxy)" 100

# cut_over [RATE]: a guest writes all of the disk while a sample is waited for.  A
# pause may be long: a slow machine must not need another round before it.
cut_over ()
{
  : > "$tmp/destination.cue/log"
  rm -f "$tmp/destination.cue/go"
  start_migrate --wait --max-pause=30s --finish=detach \
    "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  [ $# -eq 0 ] || "$nbdmigrate" set "$(uri proxy)" rate="$1"
  cue destination 'read hold until=go'
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  wait_for late_has destination 'came$'
  "$referee" pattern --uri "$(uri proxy)" --seed $((seed + $#)) --density 100
  cue destination
  go destination go
  wait_bg migrator || fail "the migrator ended with exit status $?"
  [ "$(event 'map(select(.event == "pause")) | length')" -eq 1 ] ||
    fail "the first pause was missed"
  same_content "$(uri proxy)" "$(uri destination)"
}

echo "-- what is written meanwhile is copied before the pause"
cut_over
[ "$(event 'map(select(.event == "pause"))[0].remaining_bytes')" -eq 0 ] ||
  fail "dirty in the pause: $(event 'map(select(.event == "pause"))[0]')"

echo "-- with a rate it is left to the pause, which does not obey it"
# What is written is more than could be copied before, however long that takes.
cut_over 64K
[ "$(event 'map(select(.event == "pause"))[0].remaining_bytes')" -gt 0 ] ||
  fail "copied before the pause: $(event 'map(select(.event == "pause"))[0]')"
