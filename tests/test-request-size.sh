#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# No request to read or write is longer than --request-size says, however long
# a chunk is, and none is shorter than a block of the server: in the copying,
# the reading back and the digest.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdcopy qemu-io sha256sum

size=$((8 * 1024 * 1024 + 5 * 512))
S=$(uri proxy) D=$(uri destination)

# start_all CHUNK ARGUMENT...: of the destination.
start_all ()
{
  rm -rf "$tmp/proxy.dir" "$tmp"/requests.*
  start_proxy proxy --filter=log memory $size migrate-chunk="$1" \
    logfile="$tmp/requests.source"
  fill "$S" 80 > "$tmp/fill.out"
  start_nbdkit destination --filter=log "${@:2}" \
    logfile="$tmp/requests.destination"
}

# longest_is BYTES KIND SIDE: that, or a little less.
longest_is ()
{
  local longest

  longest=$(logged_lengths "$2" "$tmp/requests.$3" | sort -n | tail -n 1)
  echo "   $2 $3: at most $longest bytes"
  ((longest <= $1 && longest > $1 * 3 / 4)) ||
    fail "$2 requests to the $3 are not at most $1"
}

# moves REQUEST-SIZE BYTES: how long the longest is then.
moves ()
{
  must_migrate --finish=detach --verify --digest --request-size="$1" "$S" "$D"
  longest_is "$2" Read source
  longest_is "$2" Write destination
  longest_is "$2" Read destination
  [ "$(completed 'disks[0].sha256')" = \
    "$(nbdcopy "$S" - | sha256sum | cut -d ' ' -f 1)" ] ||
    fail "the destination does not hold what the source does"
  end_bg proxy
  end_bg destination
}

echo "-- shorter than a chunk"
start_all 1M memory $size
moves 64K 65536

echo "-- not made of blocks of memory"
start_all 64K memory $size
moves 10001 10001

echo "-- shorter than a block of the destination, and a chunk is one of them"
start_all 64K --filter=blocksize-policy memory $((size / 65536 * 65536 + 65536)) \
  blocksize-minimum=64K blocksize-preferred=64K blocksize-maximum=1M \
  blocksize-error-policy=error
moves 4K 65536

echo "-- longer than a chunk"
start_all 64K memory $size
moves 256K 262144

echo "-- a chunk is no shorter than a block of the source"
rm -rf "$tmp/proxy.dir"
start_proxy proxy --filter=blocksize-policy memory $((1024 * 1024)) \
  blocksize-minimum=64K blocksize-preferred=64K blocksize-maximum=1M \
  blocksize-error-policy=error migrate-chunk=4K
start_nbdkit destination memory $((1024 * 1024))
qemu-io -f raw -c 'write -P 7 64k 128k' "$(uri proxy)" > "$tmp/qemu-io.out"
must_migrate --finish=detach --verify --no-shared-memory --request-size=4K \
  "$(uri proxy)" "$(uri destination)"
[ "$(completed 'disks[0].chunk_bytes')" -eq 65536 ]
same_content "$(uri proxy)" "$(uri destination)"
