#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Two disks of one guest, moved by nbdmigrate in one run through all that may be
# done about the guest: tracked, mirrored, a destination that stalls, tracked,
# throttled, mirrored, pivoted.  The guest sees no error, and nothing is missing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
requires nbdkit jq

for i in 1 2; do
  start_proxy proxy$i --filter=rate memory $((outrun_bytes / 2)) \
    "${outrun_source[@]}"
  start_nbdkit destination$i memory $((outrun_bytes / 2))
done
S1=$(uri proxy1) S2=$(uri proxy2) D1=$(uri destination1) D2=$(uri destination2)
start_guest_on guest "$S1" "$S2" -- "${outrun_guest[@]}"

steer ()
{
  "$nbdmigrate" set "$S1" "$@"
}

both_mirrored_more_than ()
{
  mirrored_more_than "$1" proxy1 && mirrored_more_than "$2" proxy2
}

# The floor is more than is copied, so that it does not come to an end by that.
echo "-- tracked, then mirrored"
start_migrate --wait --finish=pivot --converge=mirror --throttle-floor=5M \
  "${outrun_copy[@]}" "$S1" "$D1" "$S2" "$D2"
must_live=(migrator guest)
wait_for both_mirrored_more_than 0 0
must_have_told mirror 'go to the destination as well'

echo "-- a destination stalls, and guests go on"
kill_bg destination1 STOP
wait_for has_told mirror 'mirroring has failed' # it may have before
guest_goes_on guest 200
kill_bg destination1 CONT

echo "-- tracked, then throttled"
steer converge=off
wait_for mirror_is_off proxy1
wait_for mirror_is_off proxy2
guest_goes_on guest 200
before=("$(mirrored proxy1)" "$(mirrored proxy2)")
steer converge=throttle
"$nbdmigrate" finish --no-wait "$S1"
wait_for has_told throttle 'guests may write'
[ "$(mirrored proxy1) $(mirrored proxy2)" = "${before[*]}" ] ||
  fail "mirrored while it is not wished"

echo "-- mirrored again, and pivoted, whatever it takes"
steer converge=mirror
wait_for both_mirrored_more_than "${before[@]}"
must_have_told throttle 'as fast as they like again'
steer converge=auto rate=0
must_live=(guest)
wait_bg migrator || fail "the migrator ended with exit status $?"
must_have_status "$S1" '.owner == "destination"'
guest_goes_on guest 200
must_live=()
stop_guest guest
verify_all_final guest "$D1" "$D2"
end_bg proxy1 # they use the destinations
end_bg proxy2
