#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The way back to the local image, with guests' writes mirrored to it (R12): the
# image is slower than the guest, who writes more than can be copied.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io

size=$((16 * 1024 * 1024))
P=$(uri proxy)
view="nbd+unix:///nbdmigrate-local?socket=$tmp/proxy.sock"
truncate -s $size "$tmp/local" "$tmp/a"
start_nbdkit a file "$tmp/a"
start_proxy proxy --filter=rate file "$tmp/local" rate=$((64 * 8))M \
  burstiness=0.05

must_migrate "$P" "$(uri a)"
start_guest guest "$P" --depth 4 --kinds rwzf

has_mirrored ()
{
  has_status "$tmp/proxy.dir" '.mirror.writes >= 20'
}

echo "-- mirrored, and nobody else may write there"
start_migrate --converge=mirror --wait --max-pause=50ms "$P" local:
wait_for has_mirrored
if qemu-io -f raw -c 'write 0 4k' "$view" > "$tmp/qemu-io.out" 2>&1; then
  fail "a stranger could write to the local image"
fi
grep -q 'Operation not permitted' "$tmp/qemu-io.out" ||
  fail "$(cat "$tmp/qemu-io.out")"
guest_goes_on guest
stop_guest guest
status_of "$tmp/proxy.dir" .mirror
"$nbdmigrate" set "$P" max-pause=4s
"$nbdmigrate" finish --no-wait "$P"
wait_bg migrator || fail "nbdmigrate: exit status $?"
must_have_status "$tmp/proxy.dir" '.place == null and .owner == "destination"'
verify_final guest "$P"
end_bg proxy
start_nbdkit plain file "$tmp/local"
verify_final guest "$(uri plain)"
