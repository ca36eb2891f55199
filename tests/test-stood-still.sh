#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A migrator that is stopped for longer than the proxy waits for a sign of life
# says that this is what ended it.  (Time runs faster here for both.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

export HURRY=4 HURRY_ARM=$tmp/hurry
LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/hurry-preload.so \
  start_proxy proxy memory 8M
start_nbdkit destination memory 8M
fill "$(uri proxy)" 100

is_phase ()
{
  has_status "$(uri proxy)" ".progress.phase == \"$1\""
}

LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/hurry-preload.so \
  start_migrate --finish=detach --rate=64K "$(uri proxy)" "$(uri destination)"
wait_for is_phase bulk
kill_bg migrator STOP
touch "$HURRY_ARM"
wait_for has_status "$(uri proxy)" '.session == false'
kill_bg migrator CONT
expect_status 1 wait_bg migrator
grep -q 'nbdmigrate: this process stood still for' "$tmp/migrator.log"
has_status "$(uri proxy)" '.owner == "source"'
