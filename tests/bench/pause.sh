#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# pause.sh: the longest write of an idle guest in the pause of a pivot, less a
# usual one.  ROUNDS=N (default 5).

set -euo pipefail

TMPDIR=${TMPDIR:-/var/tmp}
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
# shellcheck source=tests/bench/fio.sh
source "$SRCDIR/tests/bench/fio.sh"

# light_guest NAME: one write after the other; how long each of them took, with
# its end in milliseconds since the epoch, goes to $tmp/NAME_clat.1.log.
light_guest ()
{
  fio_on "$(uri proxy)" --rw=write --bs=4k --iodepth=1 --size=64k \
    --rate_iops=500 --log_unix_epoch=1 --write_lat_log="$tmp/$1" > "$tmp/$1.out"
}

# The median of all writes, in milliseconds.
typical_write ()
{
  # shellcheck disable=SC2046 # numbers
  calculate "$(median $(cut -d, -f2 "$tmp/$1_clat.1.log")) / 1e6"
}

# The longest of those that were under way in the pause.
longest_in_pause ()
{
  local begin end

  read -r begin end < <(event 'map(select(.event == "pause")) | last |
    "\(.begin_time * 1000 | floor) \(.end_time * 1000 | ceil)"')
  awk -F, -v begin="$begin" -v end="$end" '
    $1 >= begin && $1 - $2 / 1e6 <= end + 1 && $2 > longest { longest = $2 }
    END { printf "%.2f", longest / 1e6 }' "$tmp/$1_clat.1.log"
}

bench_pause ()
{
  local i quiet pivot difference='' gates=''

  echo "== pivot under a guest that writes the same 64 KiB, 500 times a second"
  for ((i = 0; i < rounds; i++)); do
    rm -rf "$tmp/proxy.dir" "$tmp"/*_clat.1.log
    truncate -s 64M "$tmp/source" "$tmp/copy"
    start_proxy proxy file "$tmp/source"
    start_nbdkit destination file "$tmp/copy"
    light_guest quiet
    start_migrate --wait "$(uri proxy)" "$(uri destination)"
    wait_for is_ready
    writes_before=$(guest_writes)
    light_guest pivot & # waited for below
    wait_for guest_is_at_work
    "$nbdmigrate" finish "$(uri proxy)"
    wait_bg migrator
    wait $!
    quiet=$(typical_write quiet)
    pivot=$(longest_in_pause pivot)
    difference+=" $(calculate "$pivot - $quiet")"
    gates+=" $(calculate "$(completed pause_ms)")"
    echo "in quiet time $quiet ms, in the pause up to $pivot ms"
    end_bg proxy
    end_bg destination
  done
  # shellcheck disable=SC2086 # numbers
  echo "median of the differences $(median $difference) ms;" \
    "of what nbdmigrate says $(median $gates) ms"
}

guest_writes ()
{
  status .guest.writes
}

guest_is_at_work ()
{
  [ "$(guest_writes)" -gt $((writes_before + 20)) ]
}

bench_pause
