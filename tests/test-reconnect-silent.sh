#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A destination that was lost comes back, takes connections, and does not answer
# the reads that look at what it holds.  It is dialled again, within the time that
# --reconnect allows, and not waited for without a limit.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"

# come_back: it is asked to read, and holds the answers back for ever.
come_back ()
{
  crash_bg destination
  late_forget destination
  mkdir -p "$tmp/destination.cue"
  cue destination 'read hang'
  start_late destination
  wait_for late_has destination ' read .* came'
}

# begin LIMIT: in sync with the destination.
begin ()
{
  start_late destination
  start_migrate --wait --finish=detach --reconnect="$1" "$(uri proxy)" \
    "$(uri destination)"
  wait_for is_ready
}

start_proxy proxy memory 4M
fill "$(uri proxy)" 70
truncate -s 4M "$tmp/destination.img"
GUEST_ACKS=5 start_guest guest "$(uri proxy)" --initial "$pattern" --rate 100K

echo "-- it answers when it is asked over a new connection"
begin 15s
come_back
wait_for has_events lost 2
cue destination
wait_for has_events reconnected 1
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_cut guest "$(uri destination)"

echo "-- it never answers"
crash_bg destination
late_forget destination
begin 5s
come_back
must_end 1 'it is there, and does not answer.*--reconnect'
guest_goes_on guest 5
stop_guest guest
