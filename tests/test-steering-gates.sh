#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# `set` changes all that it is given, or nothing: also where it is asked of one disk, and
# the pause is longer than the proxy of another one of the migration allows.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

start_proxy patient memory 8M
start_proxy hasty memory 8M migrate-max-gate=1s
start_nbdkit destination1 memory 8M
start_nbdkit destination2 memory 8M
fill "$(uri patient)" 100
fill "$(uri hasty)" 100

# has_limits RATE MS: in force.
has_limits ()
{
  has_status "$(uri patient)" ".progress.rate == $1 and .progress.max_pause_ms == $2"
}

# refused TEXT: with such a pause, whichever disk it is asked of.
refused ()
{
  expect_status 1 "$nbdmigrate" set "$1" rate=1M max-pause=2s 2> "$tmp/said"
  grep -qF -- "$2" "$tmp/said" || fail "said was: $(cat "$tmp/said")"
  grep -q 'nothing is changed$' "$tmp/said"
}

start_bg migrator "$nbdmigrate" --finish=detach --rate=64K --max-pause=300ms \
  "$(uri patient)" "$(uri destination1)" "$(uri hasty)" "$(uri destination2)"
wait_for has_limits 65536 300
refused "$(uri patient)" 'the proxy of another disk of this migration allows: 1.0 s'
refused "$(uri hasty)" "the proxy of $(uri hasty) allows: 1.0 s"
must_have_status "$(uri patient)" '.progress.most_pause_ms == 1000'

# What came later has been read; so would have been what was refused.
"$nbdmigrate" set "$(uri patient)" background=7
wait_for has_status "$(uri patient)" '.progress.background == 7'
has_limits 65536 300 || fail "something was changed: $(status_of "$(uri patient)" .progress)"

"$nbdmigrate" set "$(uri patient)" rate=128K max-pause=1s
wait_for has_limits 131072 1000
kill_bg migrator TERM
expect_status 3 wait_bg migrator
