#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# The destination is killed while guests' writes go there, too: the guest sees no
# error and goes on, nbdmigrate says who has the disk, and the next run misses
# nothing, although the destination has lost what it had not flushed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

truncate -s $outrun_bytes "$tmp/destination.img"
start_proxy proxy --filter=rate memory $outrun_bytes "${outrun_source[@]}"
start_late destination volatile=1
start_guest guest "$(uri proxy)" "${outrun_guest[@]}"
start_migrate --wait --finish=detach --reconnect=0 --converge=mirror \
  "${outrun_copy[@]}" "$(uri proxy)" "$(uri destination)"
must_live=(migrator guest)
wait_for mirrored_more_than 0
must_live=(guest)

echo "-- killed"
crash_bg destination
expect_status 1 wait_bg migrator
cat "$tmp/migrator.log"
tail -n 1 "$tmp/migrator.log" |
  grep -q "source $(uri proxy) is intact and authoritative"
guest_goes_on guest 200
must_have_status "$(uri proxy)" \
  '.owner == "source" and .mirror.state == "off" and (.session | not)'

echo "-- it is there again, without what was not flushed"
start_late destination volatile=1
must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
verify_cut guest "$(uri destination)"
guest_goes_on guest
must_live=()
stop_guest guest
verify_final guest "$(uri proxy)"
