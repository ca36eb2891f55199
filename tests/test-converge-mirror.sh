#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# Guests' writes are mirrored by nbdmigrate when rounds do not shrink, no more
# when that is not wished any more, and again when it is; what is said of it is
# what is so.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

# The copy is slower than the guest, and the destination (in bits a second) is
# not.  The longest wait for a mirrored write belongs to that pause, so that a
# busy machine is not taken for a slow destination.
size=6M
start_proxy proxy memory $size
start_nbdkit destination --filter=rate memory $size rate=80M burstiness=0.005
start_guest guest "$(uri proxy)" --rate 6M --depth 4
start_migrate --wait --finish=detach --converge=mirror --rate=1500K \
  --background=0 --max-pause=300ms "$(uri proxy)" "$(uri destination)"
must_live=(migrator)

# mirrored_more_than N: writes; a busy destination may end it again at any time.
mirrored_more_than ()
{
  has_status "$(uri proxy)" ".mirror.writes > $1"
}

# has_told TEXT: of the mirror.
has_told ()
{
  event 'map(select(.event == "policy" and .decision == "mirror") | .reason)' |
    grep -q "$1"
}

had_progress ()
{
  [ "$(event "map(select(.event == \"progress\")) | any($1)")" = true ]
}

is_off ()
{
  has_status "$(uri proxy)" '.mirror.state == "off"'
}

echo "-- rounds do not shrink"
wait_for mirrored_more_than 0
has_told 'go to the destination as well' || fail "it is not told"
wait_for had_progress '.mirror == "on"'

echo "-- not wished any more"
"$nbdmigrate" set "$(uri proxy)" converge=off
wait_for had_progress '.converge == "off"'
wait_for is_off
before=$(status .mirror.writes)
guest_goes_on guest
must_have_status "$(uri proxy)" ".mirror.writes == $before"

echo "-- and again"
"$nbdmigrate" set "$(uri proxy)" converge=mirror
wait_for mirrored_more_than "$before"
"$nbdmigrate" set "$(uri proxy)" rate=0
"$nbdmigrate" finish "$(uri proxy)"
must_live=()
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_cut guest "$(uri destination)"
guest_goes_on guest
must_have_status "$(uri proxy)" '.mirror.state == "off"'
