#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# background.sh: what a guest with one request of 4 KiB at a time keeps of what it
# writes while the bulk is copied, memory to memory, by --background.  ROUNDS=N
# (default 5), MIB=N (default 1536; twice as much memory is needed).

set -euo pipefail

# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
# shellcheck source=tests/bench/fio.sh
source "$SRCDIR/tests/bench/fio.sh"

mib=${MIB:-1536}

# "WRITES MICROSECONDS" of now; nobody but the guest writes to the proxy.
sample ()
{
  local n

  n=$(status .guest.writes)
  echo "$n ${EPOCHREALTIME/./}"
}

# rate SAMPLE SAMPLE: writes per second.
rate ()
{
  # shellcheck disable=SC2086 # two numbers each
  set -- $1 $2
  calculate "($3 - $1) * 1000000 / ($4 - $2)"
}

quiet ()
{
  local before

  before=$(sample)
  sleep 1
  rate "$before" "$(sample)"
}

phases_are ()
{
  [ "$(event 'map(select(.event == "phase")) | length')" -ge "$1" ]
}

# bulk BACKGROUND: writes per second beside it, and how long it took.
bulk ()
{
  local before after

  start_migrate --background="$1" --restart --wait "$(uri proxy)" \
    "$(uri destination)"
  wait_for phases_are 1
  before=$(sample)
  wait_for phases_are 2
  after=$(sample)
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
  echo "$(rate "$before" "$after") $(calculate "(${after#* } - ${before#* }) / 1e6")"
}

bench_background ()
{
  local level i guest seconds before beside

  echo "== a guest's 4 KiB writes at depth 1 while $mib MiB are copied"
  start_proxy proxy memory "${mib}M"
  start_nbdkit destination memory "${mib}M"
  fill "$(uri proxy)" 100 > "$tmp/fill.out"
  start_bg guest fio --name=guest --ioengine=nbd --uri="$(uri proxy)" \
    --rw=randwrite --bs=4k --iodepth=1 --norandommap --time_based \
    --runtime=3600 --size=256M --randseed="$seed"
  sleep 1
  printf '%10s  %-26s %s\n' background 'kept of quiet (range)' 'bulk, s'
  for level in 0 50 100; do
    before='' beside='' seconds=''
    for ((i = 0; i < rounds; i++)); do
      before+=" $(quiet)"
      bulk $level > "$tmp/bulk"
      read -r guest s < "$tmp/bulk"
      beside+=" $guest" seconds+=" $s"
    done
    # shellcheck disable=SC2086 # numbers
    printf '%10s  %-26s %s\n' $level "$(ratio_range "$beside" "$before")" \
      "$(median $seconds)"
  done
  kill_bg guest INT
  wait_bg guest || :
  end_bg proxy
  end_bg destination
}

bench_background
