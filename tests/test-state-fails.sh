#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What has to be safe is so before anything is written that may fail: a
# destination that was lost is lost although its history could not be written
# (R6a).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

size=$((1024 * 1024))

# start_failing FILES: the steps of their writing fail while "arm" is there.
start_failing ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/arm"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy.dir \
    CRASH_FILES=$1 CRASH_ARM=$tmp/arm CRASH_HOW=fail CRASH_AT=1 \
    CRASH_TO=1000 start_proxy proxy memory $size
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
}

echo "-- a loss whose history cannot be written"
start_failing history
start_talker proxy
talk attach
talk begin '{"destination": "nbd://localhost:1/"}'
epoch=$(answered .return.epoch)
talk take '{"cursor": 0, "max_bytes": 1073741824}'
extents=$(answered '.return.extents | map(.[0:2]) | tojson')
talk "done" "{\"extents\": $extents, \"epoch\": $epoch}"
touch "$tmp/arm"
ask lost
[ "$(answered .error.class)" = Failed ] || fail "lost: $answer"
talk status
[ "$(answered .return.epoch)" -gt "$epoch" ] || fail "the epoch is as it was"
[ "$(answered .return.unflushed_bytes)" -eq 0 ]
[ "$(answered .return.dirty_bytes)" -eq $size ]
rm "$tmp/arm"
stop_talker
end_bg proxy
