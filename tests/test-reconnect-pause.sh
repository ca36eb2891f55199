#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The destination is killed in the pause, while it is flushed: the gate opens, the
# guest goes on at its source, and when the destination is back, without what was
# not flushed, the pivot is tried again and is right.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq

gate_is ()
{
  has_status "$(uri proxy)" ".gate == \"$1\""
}

start_proxy proxy memory 4M
fill "$(uri proxy)" 60
truncate -s 4M "$tmp/destination.img"
start_late destination volatile=1
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 500K

# Each flush waits until it is known whether it is that of the pause.  Guests write
# meanwhile: where nothing was copied since the last flush the pause needs none.
n=1
cue destination "flush hold until=go$n"
start_migrate --connections=1 --max-pause=5s "$(uri proxy)" "$(uri destination)"
must_live=(migrator)
wait_for late_has destination ' flush .* came' $n
until gate_is closed; do
  guest_goes_on guest 3
  cue destination "flush hold until=go$((n + 1))"
  go destination go$n
  n=$((n + 1))
  wait_for late_has destination ' flush .* came' $n
done
echo "-- flush $n is that of the pause"
lose destination
gate_is open || fail "the gate is shut"
guest_goes_on guest
[ "$(event 'map(select(.event == "pause") | .result) | join(" ")')" = expired ]

late_forget destination
start_late destination volatile=1
must_live=()
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(completed reconnects)" = 1 ]
guest_goes_on guest
must_have_status "$(uri proxy)" '.owner == "destination"'
stop_guest guest
verify_final guest "$(uri destination)"
end_bg proxy
end_bg destination
