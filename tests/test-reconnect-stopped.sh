#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# The destination's server is stopped in an orderly way, and started again, while
# requests to it are in flight.  Some servers answer these with ESHUTDOWN before
# they close the connection: that is a loss, too, and not what ends the run.  So
# it is where only what is read back (--verify) is in flight.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq

size=16M

# start_slow READ WRITE: seconds that each takes.
start_slow ()
{
  start_nbdkit destination --filter=delay file "$tmp/disk" \
    rdelay="$1" wdelay="$2"
}

stop_destination ()
{
  end_bg destination
  losses=$((losses + 1))
  wait_for has_events lost $losses
}

writes ()
{
  has_status "$(uri proxy)" '.progress.phase == "bulk" and
    .leased_bytes > 0'
}

start_proxy proxy memory $size
fill "$(uri proxy)" 70
truncate -s $size "$tmp/disk"
GUEST_ACKS=5 start_guest guest "$(uri proxy)" --initial "$pattern" --rate 100K
start_slow 0 500ms
start_migrate --wait --finish=detach --verify "$(uri proxy)" \
  "$(uri destination)"

echo "-- writes are in flight"
wait_for writes
stop_destination
guest_goes_on guest 5
start_slow 300ms 0
wait_for has_events reconnected 1

echo "-- it is read back"
wait_for has_status "$(uri proxy)" '.progress.phase == "verify"'
stop_destination
guest_goes_on guest 5
start_slow 0 0
wait_for has_events reconnected 2

echo "-- the end is reached"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
stop_guest guest
verify_cut guest "$(uri destination)"
