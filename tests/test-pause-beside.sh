#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# `pause` comes while the proxy of another disk has not yet answered that its guests'
# writes are to be mirrored: when it has, that is taken back, as nothing is mirrored
# while the copying is paused.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/outrun.sh
source "$SRCDIR/tests/outrun.sh"
requires nbdkit jq

start_proxy proxy --filter=rate memory $outrun_bytes "${outrun_source[@]}"
start_proxy quiet memory 1M
start_nbdkit destination memory $outrun_bytes
start_nbdkit elsewhere memory 1M
S=$(uri proxy)

is_socket ()
{
  [ -S "$1" ]
}

# The URI leads to what the proxy announces, which is another's socket now; the
# directory has the proxy's own.
mkdir "$tmp/own"
nbdinfo --size "$(uri quiet)" > "$tmp/size" # it is known from now on
mv "$tmp/quiet.dir/control" "$tmp/own/control"
start_bg later "$BUILD/tests/lose-answer" "$tmp/own/control" \
  "$tmp/quiet.dir/control" until "$tmp/go" mirror
wait_for is_socket "$tmp/quiet.dir/control"

quiet_is ()
{
  has_status "$tmp/own" ".mirror.state == \"$1\""
}

start_guest guest "$S" "${outrun_guest[@]}"
start_migrate --wait --finish=detach --converge=mirror "${outrun_copy[@]}" \
  "$S" "$(uri destination)" "$(uri quiet)" "$(uri elsewhere)"
must_live=(migrator)
wait_for mirrored_more_than 0
wait_for quiet_is on
"$nbdmigrate" pause "$S"
wait_for has_status "$S" .progress.paused
wait_for mirror_is_off proxy
touch "$tmp/go"
wait_for quiet_is off
must_have_status "$S" .progress.paused

echo "-- and it goes on"
"$nbdmigrate" resume "$S"
"$nbdmigrate" set "$S" rate=0 converge=auto
"$nbdmigrate" finish --no-wait "$S"
must_live=()
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_cut guest "$(uri destination)"
stop_guest guest
mv "$tmp/own/control" "$tmp/quiet.dir/control"
end_bg quiet
end_bg proxy
