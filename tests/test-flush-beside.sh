#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A flush of the destination that takes long does not stop the copying, over one
# connection nor over several; and it is believed to cover what was acknowledged
# before it was sent (R6), not what was acknowledged while it was under way: the
# destination here keeps that in its memory, and is killed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy jq

size=$((64 * 1024 * 1024))
lossy=$BUILD/tests/nbdkit-lossy-plugin.so

# start_lossy NAME ARGUMENT...
start_lossy ()
{
  start_nbdkit "$1" "${@:2}" file="$tmp/$1.disk" hold-flush="$tmp/$1.hold"
}

# is_flushed_below PROXY BYTES: less is unflushed than that.
is_flushed_below ()
{
  [ "$(status_of "$(uri "$1")" .unflushed_bytes)" -lt "$2" ]
}

# Two disks, so that both are seen in the time of one.
pairs=()
for way in several one; do
  truncate -s $size "$tmp/$way.disk"
  start_proxy "proxy-$way" pattern $size
  pairs+=("$(uri "proxy-$way")" "$(uri "$way")")
done
# So slow that both connections are used at that rate.
start_lossy several --filter=delay "$lossy" delay-write=100ms
start_lossy one --filter=delay "$lossy" delay-write=100ms multi-conn=0
start_migrate --connections=2 --rate=10M --finish=detach --reconnect=0 \
  "${pairs[@]}"
wait_for has_event phase
touch "$tmp/several.hold" "$tmp/one.hold"

for way in several one; do
  echo "-- $way: written while a flush is under way"
  wait_for test -e "$tmp/$way.hold.begun"
  wait_for test -e "$tmp/$way.hold.written"
done

echo "-- what was acknowledged meanwhile is lost, and copied again"
for way in several one; do
  unflushed=$(status_of "$(uri "proxy-$way")" .unflushed_bytes)
  rm "$tmp/$way.hold"
  wait_for is_flushed_below "proxy-$way" "$unflushed"
done
crash_bg several
crash_bg one
expect_status 1 wait_bg migrator

start_lossy several "$lossy"
start_lossy one "$lossy" multi-conn=0
must_migrate --finish=detach "${pairs[@]}"
for way in several one; do
  same_content "$(uri "proxy-$way")" "$(uri $way)"
done
[ "$(completed resumed)" = true ]
(($(completed copied_bytes) < 2 * size)) ||
  fail "all was copied again: $(completed copied_bytes) bytes"
