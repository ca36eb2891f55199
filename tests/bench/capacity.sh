#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# capacity.sh: what a proxy and nbdmigrate take of memory, descriptors and threads, for
# disks of different size and number: docs/operations.md has the figures.  Memory is
# what a process alone has, and its part of what it shares (Pss), in MiB; "most" is the
# most that it had (VmHWM), libraries and shared memory included.
#
#   SIZES="16G 1T 8T"   of the disks, which are sparse
#   DISKS="1 8"         how many are moved together

set -euo pipefail

# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
requires nbdkit jq fio

row ()
{
  printf '| %-24s | %6s | %5s | %8s | %8s | %11s | %7s |\n' "$@"
}

# take WHAT SIZE DISKS PID: a row.
take ()
{
  local pss hwm

  pss=$(awk '/^Pss:/ { print $2 / 1024 }' "/proc/$4/smaps_rollup")
  hwm=$(awk '/^VmHWM:/ { print $2 / 1024 }' "/proc/$4/status")
  row "$1" "$2" "$3" "$(printf %.1f "$pss")" "$(printf %.1f "$hwm")" \
    "$(find "/proc/$4/fd" -mindepth 1 | wc -l)" "$(find "/proc/$4/task" -mindepth 1 -maxdepth 1 | wc -l)"
}

is_ready_disk ()
{
  has_status "$(uri proxy1)" '.progress.phase == "ready"'
}

# What was written in the bulk has been flushed, and all has come to rest.
capacity ()
{
  local size=$1 disks=$2 i before pairs=()

  for ((i = 1; i <= disks; i++)); do
    truncate -s "$size" "$tmp/source$i" "$tmp/destination$i"
    "$BUILD/tests/scatter" "$tmp/source$i" 256 65536 1 # some data to copy
    start_proxy "proxy$i" file "$tmp/source$i"
    start_nbdkit "destination$i" file "$tmp/destination$i"
    start_bg "guest$i" fio --name=guest --ioengine=nbd --uri="$(uri "proxy$i")" \
      --rw=randrw --bs=4k --iodepth=16 --rate=64k,64k --size="$size" \
      --io_size=1T --norandommap --time_based --runtime=1h
    wait_for has_status "$(uri "proxy$i")" '.guest.writes > 30'
    pairs+=("$(uri "proxy$i")" "$(uri "destination$i")")
  done
  take "proxy, no migration" "$size" "$disks" "${pids[proxy1]}"
  start_migrate --wait --max-pause=4s "${pairs[@]}"
  wait_for is_ready_disk
  take "proxy, in sync" "$size" "$disks" "${pids[proxy1]}"
  take "nbdmigrate, in sync" "$size" "$disks" "${pids[migrator]}"
  "$nbdmigrate" finish --no-wait "$(uri proxy1)"
  wait_bg migrator || fail "the migrator ended with exit status $?"
  before=$(status_of "$(uri proxy1)" .guest.writes)
  wait_for has_status "$(uri proxy1)" ".guest.writes > $before + 30"
  take "proxy, after a pivot" "$size" "$disks" "${pids[proxy1]}"
  for ((i = 1; i <= disks; i++)); do
    kill_bg "guest$i" TERM
    wait_bg "guest$i" || :
    end_bg "proxy$i"
    end_bg "destination$i"
    rm -r "$tmp/source$i" "$tmp/destination$i" "$tmp/proxy$i.dir"
  done
}

row "process" disk disks "MiB" "most MiB" descriptors threads
row "---" "---" "---" "---:" "---:" "---:" "---:"
for size in ${SIZES:-16G 1T 8T}; do
  for disks in ${DISKS:-1 8}; do
    capacity "$size" "$disks"
  done
done
