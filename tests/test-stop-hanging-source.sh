#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# The source answers no flush when the proxy is told to end: it ends all the same,
# says so, and the next one goes on with what is marked (R14).  So it does where it is
# one flush of the filter's own that has no answer, and a guest's waits beside it (R13).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit jq nbdcopy

size=$((1024 * 1024))
S=$(uri proxy) D=$(uri destination)
hold=$tmp/hold
touch "$tmp/hurry"

start_source ()
{
  hurried 5 start_nbdkit proxy --filter="$filter" \
    "$BUILD/tests/nbdkit-lossy-plugin.so" file="$tmp/source" \
    multi-conn="$multi_conn" hold-flush="$hold" migrate-dir="$tmp/proxy.dir" \
    migrate-chunk=65536
}

for multi_conn in 0 1; do
  echo "-- multi-conn=$multi_conn"
  rm -rf "$tmp/proxy.dir" "$hold".*
  head -c $size /dev/urandom > "$tmp/source"
  truncate -s $size "$tmp/destination"
  start_source
  start_nbdkit destination file "$tmp/destination"
  start_migrate --wait "$S" "$D"
  wait_for is_ready
  wait_for has_status "$S" '.dirty_map.marked_bytes == 0'
  touch "$hold"
  head -c 4096 /dev/urandom > "$tmp/block"
  nbdcopy "$tmp/block" "$S"
  wait_for test -e "$hold.begun"
  kill_bg proxy TERM
  expect_status 0 wait_bg proxy
  grep -q 'nbdkit ends without it' "$tmp/proxy.log" || fail "nothing was said"
  wait_bg migrator || :
  rm "$hold"
  start_source
  must_migrate --finish=detach "$S" "$D"
  [ "$(completed resumed)" = true ] || fail "it did not go on"
  end_bg proxy
  end_bg destination
  cmp "$tmp/source" "$tmp/destination" || fail "the two sides differ"
done

echo "-- a guest's flush waits beside the filter's"
if ! nbdkit nbd --dump-plugin > "$tmp/dump" 2>&1; then
  echo "skipped: nbdkit has no nbd plugin"
elif ! command -v qemu-io > "$tmp/which"; then
  echo "skipped: there is no qemu-io"
else
  at_end 'go back now'
  rm -rf "$tmp/proxy.dir"
  truncate -s $size "$tmp/back.img" "$tmp/destination"
  start_late back
  cue back 'flush hold until=now count=1' 'flush late ms=1'
  hurried 5 start_proxy proxy nbd uri="$(uri back)"
  start_nbdkit destination file "$tmp/destination"
  start_migrate --wait "$S" "$D"
  wait_for late_has back 'flush .* came$'
  start_bg guest qemu-io -f raw -c 'write 0 4k' -c flush "$S"
  wait_for late_has back 'flush .* answered$'
  kill_bg proxy TERM
  expect_status 0 wait_bg proxy
  wait_bg guest || : # its flush has failed
  wait_bg migrator || :
fi
