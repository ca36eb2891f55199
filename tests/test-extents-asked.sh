#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Whether it can tell its extents a plugin is asked for the first connection and
# for those that use it, not for each: to answer it may look through all of the
# disk.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo

S=$(uri proxy)

# start_eval WHAT: the proxy of a plugin that answers the question so.
start_eval ()
{
  : > "$tmp/asked"
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy eval \
    get_size='echo 1M' thread_model='echo parallel' \
    can_multi_conn="exit 0" pread="head -c \$3 /dev/zero" \
    can_extents="echo >> $tmp/asked; $1" \
    extents="echo \$4 \$3 zero"
}

# map_says TEXT
map_says ()
{
  nbdinfo --map "$S" > "$tmp/map"
  grep -q "$1" "$tmp/map" || fail "no $1 in: $(cat "$tmp/map")"
}

# asked N
asked ()
{
  [ "$(wc -l < "$tmp/asked")" -eq "$1" ] ||
    fail "it was asked $(wc -l < "$tmp/asked") times, not $1"
}

start_eval 'exit 0'
for ((i = 0; i < 3; i++)); do
  nbdinfo "$S" > "$tmp/info"
  grep -q base:allocation "$tmp/info" || fail "the context is not offered"
done
asked 1
map_says zero
asked 2
map_says zero
asked 3
end_bg proxy

echo "-- one that cannot says so each time"
start_eval 'exit 3'
map_says data
map_says data
end_bg proxy
