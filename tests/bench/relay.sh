#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# relay.sh: guest requests after a pivot, against `nbdkit nbd` to the same
# destination.  ROUNDS=N (default 5).

set -euo pipefail

TMPDIR=${TMPDIR:-/var/tmp}
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
# shellcheck source=tests/bench/fio.sh
source "$SRCDIR/tests/bench/fio.sh"

# workload URI KIND
workload ()
{
  case $2 in
  randwrite | randread)
    fio_on "$1" --rw="$2" --bs=4k --iodepth=16 --size=256M ;;
  write | read)
    fio_on "$1" --rw="$2" --bs=1M --iodepth=4 --size=256M ;;
  esac
}

bench_relay ()
{
  local kind i ours theirs direct unit

  echo "== after a pivot, against nbdkit nbd, to the same nbdkit memory"
  start_nbdkit destination memory 256M
  start_nbdkit relay nbd socket="$tmp/destination.sock"
  start_proxy proxy memory 256M
  must_migrate "$(uri proxy)" "$(uri destination)"
  fill "$(uri destination)" 100 > "$tmp/fill.out"
  printf '%-12s %10s %10s %10s  %s\n' workload pivot 'nbdkit nbd' direct \
    "median of $rounds ratios pivot : nbdkit nbd"
  for kind in randwrite randread write read; do
    unit='.read.iops + .write.iops'
    ours='' theirs='' direct=''
    for ((i = 0; i < rounds; i++)); do
      ours+=" $(workload "$(uri proxy)" $kind | jq "$unit")"
      theirs+=" $(workload "$(uri relay)" $kind | jq "$unit")"
    done
    direct=$(workload "$(uri destination)" $kind | jq "$unit")
    # shellcheck disable=SC2086 # numbers
    printf '%-12s %10.0f %10.0f %10.0f  %s\n' $kind "$(median $ours)" \
      "$(median $theirs)" "$direct" "$(median_ratio "$ours" "$theirs")"
  done
  echo "(requests per second: 4 KiB at depth 16, or 1 MiB at depth 4)"
  end_bg proxy
  end_bg relay
  end_bg destination
}

bench_relay
