#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination that was lost and comes back as it was some time ago, or as the other one
# of two copies that take turns at one address, is not written to (R6a, R20): it lacks a
# chunk or two of thousands, which random places would hardly find.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq qemu-io

S=$(uri proxy) D=$(uri destination)
chunk=4096
truncate -s 64M "$tmp/disk"
start_proxy proxy memory 64M migrate-chunk=$chunk

guest ()
{
  qemu-io -f raw "$@" "$S" > "$tmp/qemu-io.out"
}

start_destination ()
{
  start_nbdkit destination file "$tmp/disk"
}

is_in_sync ()
{
  is_ready && has_status "$S" '.remaining_bytes == 0 and .unflushed_bytes == 0'
}

begin ()
{
  start_migrate --wait --finish=detach "$@" "$S" "$D"
  wait_for is_in_sync
}

# comes_back_as FILE OFFSET: which is refused, and not written to; then all is as before.
comes_back_as ()
{
  lose destination
  mv "$tmp/disk" "$tmp/right"
  cp "$1" "$tmp/disk"
  start_destination
  must_end 1 "has come back, and does not hold what was flushed there: the chunk at offset $2 "
  cmp "$1" "$tmp/disk" || fail "it was written to"
  must_have_status "$S" '.owner == "source" and .gate == "open" and (.session | not)'
  end_bg destination
  mv "$tmp/right" "$tmp/disk"
}

guest -c "write -P 1 0 1M" -c "write -P 2 32M 1M"

echo "-- as it was before one chunk was copied"
start_destination
begin
cp "$tmp/disk" "$tmp/older"
guest -c "write -P 3 5M $chunk"
wait_for is_in_sync
comes_back_as "$tmp/older" $((5 * 1024 * 1024))

echo "-- as the other one of two copies that take turns"
start_destination
must_migrate --finish=detach "$S" "$D"
cp "$tmp/disk" "$tmp/other"
guest -c "write -P 4 7M 512" -c "write -P 4 10M 512"
must_migrate --finish=detach --incremental "$S" "$D"
begin --incremental
[ "$(event 'map(select(.event == "started")) | .[0].disks[0].resumed')" = true ]
comes_back_as "$tmp/other" $((7 * 1024 * 1024))

echo "-- the right one is gone on with, also when it was written to meanwhile"
start_destination
must_migrate --finish=detach --restart "$S" "$D"
begin --incremental
guest -c "write -P 5 11M 512"
wait_for is_in_sync
lose destination
guest -c "write -P 6 11M 512" -c "write -P 6 7M 512"
start_destination
wait_for has_events reconnected 1
"$nbdmigrate" finish --no-wait "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
same_content "$S" "$D"
