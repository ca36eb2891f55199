#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# guest.sh: guest requests of 4 KiB through a proxy, when nothing is moved and
# while changes are tracked, against plain nbdkit.  ROUNDS=N (default 5).

set -euo pipefail

TMPDIR=${TMPDIR:-/var/tmp}
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
# shellcheck source=tests/bench/fio.sh
source "$SRCDIR/tests/bench/fio.sh"

# guest_iops NAME KIND DEPTH CONNECTIONS: the depth is that of each connection.
guest_iops ()
{
  fio_on "$(uri "$1")" --rw="$2" --bs=4k --iodepth="$3" --numjobs="$4" \
    --group_reporting --size=256M | jq '.read.iops + .write.iops'
}

# A migration that was interrupted leaves the tracking on, and nothing that
# copies.
start_tracking ()
{
  start_nbdkit destination memory 256M
  start_migrate --wait "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
  end_bg destination
  must_have_status "$(uri proxy)" '.tracking'
}

bench_guest ()
{
  local kind depth jobs i plain idle tracking

  echo "== guest requests of 4 KiB through a proxy, against plain nbdkit memory"
  start_nbdkit plain memory 256M
  start_proxy idle memory 256M
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy memory 256M
  start_tracking
  for i in plain idle proxy; do
    fill "$(uri $i)" 100 > "$tmp/fill.out"
  done
  printf '%-10s %5s %11s %9s  %-26s %s\n' kind depth connections plain \
    'idle : plain (range)' 'tracking : plain (range)'
  for kind in randread randwrite; do
    for depth in 1 16; do
      for jobs in 1 2; do
        plain='' idle='' tracking=''
        for ((i = 0; i < rounds; i++)); do
          plain+=" $(guest_iops plain $kind $depth $jobs)"
          idle+=" $(guest_iops idle $kind $depth $jobs)"
          tracking+=" $(guest_iops proxy $kind $depth $jobs)"
        done
        # shellcheck disable=SC2086 # numbers
        printf '%-10s %5s %11s %9.0f  %-26s %s\n' $kind $depth $jobs \
          "$(median $plain)" "$(ratio_range "$idle" "$plain")" \
          "$(ratio_range "$tracking" "$plain")"
      done
    done
  done
  end_bg proxy
  end_bg idle
  end_bg plain
}

bench_guest
