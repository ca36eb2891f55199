#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The destination is killed while guests' writes are mirrored: the mirror ends at
# once, the guest goes on, and they are mirrored again when it is back.  It has
# lost what was not flushed, on whichever way it came.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
requires nbdkit jq

start_lossy ()
{
  start_nbdkit destination "$BUILD/tests/nbdkit-lossy-plugin.so" \
    file="$tmp/lossy"
}

truncate -s $outrun_bytes "$tmp/lossy"
start_proxy proxy --filter=rate memory $outrun_bytes "${outrun_source[@]}"
start_lossy
start_guest guest "$(uri proxy)" "${outrun_guest[@]}"
start_migrate --wait --finish=detach --converge=mirror "${outrun_copy[@]}" \
  "$(uri proxy)" "$(uri destination)"
must_live=(migrator)

wait_for mirrored_more_than 0
lose destination
wait_for mirror_is_off proxy
before=$(mirrored proxy)
guest_goes_on guest
[ "$(mirrored proxy)" -eq "$before" ] || fail "mirrored to nobody"
start_lossy
wait_for has_events reconnected 1
wait_for mirrored_more_than "$before"

stop_guest guest
"$nbdmigrate" finish --no-wait "$(uri proxy)"
must_live=()
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_final guest "$(uri destination)"
