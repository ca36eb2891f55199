#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Nothing of a migration waits until nbdmigrate looks round, ten times a second:
# small disks are moved in much less time than that.  Here it never looks round
# (tests/preload/no-tick.c): it would wait for ever, and its proxy end the
# session after ten seconds.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit
[ -z "${SANITIZER:-}" ] || skip "a sanitizer wants to be loaded first"

# start_disks BYTES PIECES...: proxies with a disk each, and destinations.
start_disks ()
{
  local bytes=$1 n=0 pieces

  shift
  pairs=()
  for pieces; do
    n=$((n + 1))
    rm -rf "$tmp/proxy$n.dir"
    truncate -s 0 "$tmp/disk$n" "$tmp/copy$n"
    truncate -s "$bytes" "$tmp/disk$n" "$tmp/copy$n"
    [ "$pieces" -eq 0 ] ||
      "$BUILD/tests/scatter" "$tmp/disk$n" "$pieces" 65536 "$seed"
    start_proxy "proxy$n" file "$tmp/disk$n"
    start_nbdkit "destination$n" file "$tmp/copy$n"
    pairs+=("$(uri "proxy$n")" "$(uri "destination$n")")
  done
}

# move OPTION...
move ()
{
  local n

  LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/no-tick-preload.so \
    timeout 60 "$nbdmigrate" --quiet "$@" "${pairs[@]}" ||
    fail "nbdmigrate $*: $?"
  for ((n = 1; n <= ${#pairs[@]} / 2; n++)); do
    end_bg "proxy$n"
    end_bg "destination$n"
    "$BUILD/tests/same-data" "$tmp/disk$n" "$tmp/copy$n" ||
      fail "$*: the copy of disk $n is not right"
  done
}

echo "-- a small disk"
start_disks 4M 64
move --finish=detach

echo "-- pivot, and what was copied is read back"
start_disks 4M 40
move --finish=pivot --verify

echo "-- an empty disk, and no shared memory"
start_disks 4M 0
move --finish=handover --no-shared-memory

echo "-- several disks"
start_disks 2M 3 0 32
move --finish=detach --verify --digest
