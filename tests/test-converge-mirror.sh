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
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
requires nbdkit jq

start_proxy proxy --filter=rate memory $outrun_bytes "${outrun_source[@]}"
start_nbdkit destination memory $outrun_bytes
start_guest guest "$(uri proxy)" "${outrun_guest[@]}"
start_migrate --wait --finish=detach --converge=mirror "${outrun_copy[@]}" \
  "$(uri proxy)" "$(uri destination)"
must_live=(migrator)

echo "-- rounds do not shrink"
wait_for mirrored_more_than 0
must_have_told mirror 'go to the destination as well'
wait_for had_progress '.mirror == "on"'

echo "-- not wished any more"
"$nbdmigrate" set "$(uri proxy)" converge=off
wait_for had_progress '.converge == "off"'
wait_for mirror_is_off proxy
before=$(mirrored proxy)
guest_goes_on guest
[ "$(mirrored proxy)" -eq "$before" ] || fail "mirrored all the same"

echo "-- and again"
"$nbdmigrate" set "$(uri proxy)" converge=mirror
wait_for mirrored_more_than "$before"
"$nbdmigrate" set "$(uri proxy)" rate=0 converge=auto
"$nbdmigrate" finish --no-wait "$(uri proxy)"
must_live=()
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_cut guest "$(uri destination)"
guest_goes_on guest
mirror_is_off proxy || fail "it is not off at the end"
