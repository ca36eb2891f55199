#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 60
#
# A plugin without multi-conn, so that all connections share one context, whose
# server is stopped and started again when all was flushed: the filter's own flush
# fails then, and nothing is lost.  So no flush of a guest's fails for it (R13).  If
# something was not flushed, one does.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdcopy qemu-io
nbdkit nbd --dump-plugin > "$tmp/dump" 2>&1 || skip "nbdkit has no nbd plugin"

size=$((1024 * 1024))
S=$(uri proxy) D=$(uri destination)

start_remote ()
{
  start_nbdkit remote "$BUILD/tests/nbdkit-lossy-plugin.so" \
    file="$tmp/source" multi-conn=0
}

# guest COMMAND...: qemu-io does these on a connection of its own.
guest ()
{
  local commands=() c

  for c; do commands+=(-c "$c"); done
  qemu-io -t none -f raw "${commands[@]}" "$S" > "$tmp/guest.out" 2>&1
}

# The filter finds out: a migration begins, and fails.
find_out ()
{
  expect_status 1 migrate "$S" "$D"
  grep -q 'debug: .*all connections share one context' "$tmp/proxy.log" ||
    fail "they do not share one"
}

truncate -s $size "$tmp/source" "$tmp/destination"
start_remote
start_proxy proxy -v nbd uri="$(uri remote)"
start_nbdkit destination file "$tmp/destination"

echo "-- all was flushed"
guest "write 64k 4k" flush || fail "$(< "$tmp/guest.out")"
crash_bg remote # it would wait for its client
start_remote
find_out
guest flush || fail "the guest was told of a loss: $(< "$tmp/guest.out")"

echo "-- something was not"
head -c 4096 /dev/urandom > "$tmp/block"
nbdcopy "$tmp/block" "$S"
crash_bg remote
start_remote
find_out
guest flush && fail "nobody was told"
guest flush || fail "it was told twice: $(< "$tmp/guest.out")"
end_bg proxy # the first: the other would wait for it
