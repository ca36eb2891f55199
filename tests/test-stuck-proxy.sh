#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A proxy of several disks that does not answer when a migration ends is waited
# for once, not once for each disk, and a disk of another proxy ends well: its
# session would not last for as long.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq

disks=6

mkdir "$tmp/disks"
pairs=()
for ((i = 0; i < disks; i++)); do
  truncate -s 1M "$tmp/disks/$i" "$tmp/destination.$i"
  start_nbdkit destination$i file "$tmp/destination.$i"
  pairs+=("$(export_uri stuck $i)" "$(uri destination$i)")
done
start_proxy stuck file dir="$tmp/disks" migrate-named-exports=true
start_proxy other -v memory 1M
start_nbdkit destination memory 1M
pairs+=("$(uri other)" "$(uri destination)")

hurried 3 start_migrate --finish=detach --wait --reconnect=0 "${pairs[@]}"
wait_for has_status "$(uri other)" '.progress.phase == "ready"'
kill_bg stuck STOP
touch "$tmp/hurry"
crash_bg destination0
WAIT_SECONDS=60 expect_status 1 wait_bg migrator
kill_bg stuck CONT
! grep 'the session was silent' "$tmp/other.log" || fail "it was made to wait"
has_status "$(uri other)" '.last_end == "interrupted" and .session == false'
