#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a copy sends and receives is told for each disk, where libnbd counts it
# (1.16 and later): no less than the data, little more, all connections together,
# also those that were lost on the way.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

mib=$((1024 * 1024))
size=$((8 * mib))

# wire MEMBER: of the only disk.
wire ()
{
  completed "disks[0].wire | .$1"
}

# between LOW WHAT HIGH
between ()
{
  local n

  n=$(wire "$2")
  echo "$2: $n"
  (($1 <= n && n <= $3)) || fail "$2 is $n, not from $1 to $3"
}

start_proxy proxy memory 8M
truncate -s 8M "$tmp/copy"
start_nbdkit destination file "$tmp/copy"
fill "$(uri proxy)" 100

must_migrate --finish=detach --no-shared-memory "$(uri proxy)" "$(uri destination)"
if [[ $(nbdinfo --version) =~ libnbd\ 1\.([0-9]+) ]] &&
    ((BASH_REMATCH[1] < 16)); then
  [ "$(completed 'disks[0] | has("wire")') $(completed 'disks[0].wire')" = \
    "true null" ] || fail "this libnbd does not count, and yet it is told"
  exit 0
fi
between $size source_received_bytes $((size + mib))
between 1000 source_sent_bytes $mib
between $size destination_sent_bytes $((size + mib))
between 1000 destination_received_bytes $mib

echo "-- through shared memory"
must_migrate --finish=detach --restart "$(uri proxy)" "$(uri destination)"
between 1000 source_received_bytes $mib
between $size destination_sent_bytes $((size + mib))

echo "-- read back, and a destination that goes away in the middle"
start_migrate --finish=detach --restart --verify --rate=4M \
  "$(uri proxy)" "$(uri destination)"
wait_for has_event progress
half_way ()
{
  (($(status '.progress.copied_bytes // 0') > size / 4))
}
wait_for half_way
crash_bg destination
start_nbdkit destination file "$tmp/copy"
"$nbdmigrate" set "$(uri proxy)" rate=0
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
[ "$(completed losses)" -gt 0 ] || fail "the destination was not lost"
between $size destination_sent_bytes $((2 * size))
between $size destination_received_bytes $((2 * size))
