#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A Linux guest under QEMU has its disk pivoted under it while it writes files
# and syncs them.  It notices nothing: its session stays, it goes on writing,
# unmounts cleanly, and its kernel has no complaint.  The destination passes
# fsck and holds every file that was synced, before and after the pivot.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/guest/guest.sh
source "$SRCDIR/tests/guest/guest.sh"
requires nbdkit
guest_prepare

in_phase ()
{
  is_running "${pids[migrator]}" || fail "nbdmigrate ended early"
  [ "$(event 'map(select(.event == "phase")) | last | .phase')" = "$1" ]
}

guest_make_disk "$tmp/source"
truncate -s "${guest_disk_mib}M" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
guest_start guest "server.type=unix,server.path=$tmp/proxy.sock"
guest_works guest

echo "-- migration, while the guest writes"
before=$(guest_acks guest)
start_migrate --finish=pivot --wait --rate=32M \
  "$(uri proxy)" "$(uri destination)"
wait_for in_phase ready
during=$(($(guest_acks guest) - before))
echo "$during writes while the disk was copied"
((during > 0)) || fail "the guest did not write during the migration"
guest_latency guest > "$tmp/latency"
guest_works guest 50
quiet=$(guest_latency guest)

echo "-- pivot"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
[ "$(completed finish)" = pivot ]
guest_works guest
cut_over=$(guest_latency guest)
echo "longest write: $quiet us in quiet time, $cut_over us around the pivot;" \
     "pause: $(completed pause_ms) ms"

echo "-- the guest goes on, at the destination only"
guest_verify guest
guest_works guest 50
guest_stop guest
end_bg proxy
end_bg destination
guest_check_disk "$tmp/destination" guest
