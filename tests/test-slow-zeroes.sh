#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Requests to write zeroes become longer only where the answers come soon.  A
# destination that writes zeroes out takes its time for each: eight long ones
# would look like a server that has gone, and no flush would come between them.
# (Here each takes just longer than what counts as soon.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

MiB=$((1024 * 1024))
size=$((1536 * MiB))

# copy_zeroes DELAY: what was asked for at a time is in $longest.
copy_zeroes ()
{
  local count

  rm -rf "$tmp/proxy.dir" "$tmp/requests"
  start_proxy proxy memory $size
  start_nbdkit destination --filter=log --filter=delay memory $size \
    delay-zero="$1" logfile="$tmp/requests"
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  end_bg proxy
  end_bg destination
  [ "$(completed zeroed_bytes)" -eq $size ]
  longest=0
  while read -r count; do
    ((count <= longest)) || longest=$((count))
  done < <(sed -n 's/.* Zero id=.* count=\(0x[0-9a-f]*\) .*/\1/p' \
             "$tmp/requests")
  echo "delay $1: at most $((longest / MiB)) MiB at a time," \
       "$(completed duration_ms) ms"
}

copy_zeroes 0
((longest > 64 * MiB)) || fail "they do not become longer"
copy_zeroes 700ms
((longest <= 64 * MiB)) || fail "they become longer although they are slow"
