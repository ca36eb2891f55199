#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Whoever has written flushes (R6), one connection after the other where a
# server does them so.  The last rounds before the pause have little to write, so
# they write it over one connection, however many there are.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((64 * 1024 * 1024))

# flushes_in_pause LOG: how many requests to flush came while the gate was shut.
flushes_in_pause ()
{
  local begin end

  read -r begin end < <(event 'map(select(.event == "pause")) | last |
    "\(.begin_time) \(.end_time)"')
  sed -n 's/^\(.*[0-9]\) connection=[0-9]* Flush .*/\1/p' "$1" |
    date -f - +%s.%N |
    awk -v begin="$begin" -v end="$end" '$1 >= begin && $1 <= end' | wc -l
}

start_proxy proxy memory $size
fill "$(uri proxy)" 100
start_nbdkit destination --filter=log memory $size logfile="$tmp/log"
start_guest guest "$(uri proxy)" --initial any --rate 8M
must_migrate --finish=detach --connections=8 "$(uri proxy)" "$(uri destination)"
flushes=$(flushes_in_pause "$tmp/log")
echo "flushes in the pause: $flushes"
connections=$(sed -n 's/.* \(connection=[0-9]*\) Write .*/\1/p' "$tmp/log" |
  sort -u | wc -l)
((connections >= 4)) || fail "only $connections connections have written"
# One of the migrator's, and two at most of the mirror's.
((flushes <= 3)) || fail "$flushes connections were flushed in the pause"
guest_goes_on guest
verify_cut guest "$(uri destination)"
