#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 180
#
# R14: the power fails at the worst moment for each rule of the durable dirty map,
# and what was not synced is lost (tests/preload/power.c).  A filter with that rule
# broken on purpose leaves the sides different; the filter as it is does not.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/dirty-map.sh
source "$SRCDIR/tests/dirty-map.sh"
requires nbdkit jq qemu-io nbdcopy

sound_filter=$filter
bug=

# A disk that was copied, of which nothing is marked, durably: marks that are cleared
# are synced when the proxy is stopped.
prepare ()
{
  new_disks $((4 * 1024 * 1024))
  start_kept
  start_destination
  fill "$S" 100 > "$tmp/fill.out"
  copy_all
  end_bg proxy
  above=(--filter=log)
  parameters=(logfile="$tmp/requests")
  rm -f "$tmp/requests"
  start_kept
  above=() parameters=()
  nbdinfo --size "$S" > "$tmp/size"
  is_marked_at_most 0 || fail "something is marked"
}

# The guest's write is under way, and its mark is not durable.
write_held ()
{
  touch "$keep/hold"
  start_bg writer qemu-io -f raw -c 'write -P 0xa5 1M 4k' "$S"
  wait_for test -e "$keep/held"
}

end_writer ()
{
  wait_bg writer || :
  rm -f "$keep/hold" "$keep/held"
}

# 0: both sides are the same after the migration has gone on; 1: they are not, or
# nbdmigrate has found that out.
judge ()
{
  local verdict=0

  start_kept
  if ! go_on --finish=detach > "$tmp/go-on.out"; then
    grep -q 'does not hold what' "$tmp/migrate.log" ||
      fail "going on: $(cat "$tmp/migrate.log")"
    verdict=1
  fi
  cmp -s "$tmp/disks/source" "$tmp/destination" || verdict=1
  end_bg proxy
  end_bg destination
  return $verdict
}

# The write is at the source, and its mark is lost.
mark_after_write ()
{
  prepare
  write_held
  lose_power "$dir/dirty-map"
  end_writer
  judge
}

# The same of one that was acknowledged.
mark_unsynced ()
{
  prepare
  write_at 1M 4k
  lose_power "$dir/dirty-map"
  judge
}

# A process that is killed leaves a mark that it has not synced; the next one relies
# on it.
load_unsynced ()
{
  prepare
  write_held
  crash_bg proxy
  end_writer
  start_kept
  write_at 1M 4k
  lose_power "$dir/dirty-map"
  judge
}

is_copied ()
{
  [ "$(status '.dirty_bytes + .unflushed_bytes + .leased_bytes')" = 0 ]
}

# The destination has what the source loses: qemu-io would flush, nbdcopy does not.
clear_unflushed ()
{
  new_disks $((4 * 1024 * 1024))
  start_kept
  start_destination
  fill "$S" 100 > "$tmp/fill.out"
  start_migrate --wait "$S" "$D"
  wait_for is_ready
  head -c 4096 /dev/urandom > "$tmp/block"
  nbdcopy "$tmp/block" "$S"
  wait_for is_copied
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
  wait_for is_marked_at_most 0
  lose_power "$tmp/disks/source"
  judge
}

writer_has_come ()
{
  grep -q 'Write .*offset=0x100000' "$tmp/requests"
}

# The migration is cancelled, and the file does not say so yet.  With the bug the
# write ends; otherwise it waits.
pass_while_voided ()
{
  prepare
  touch "$keep/hold"
  start_bg cancel "$nbdmigrate" cancel "$S"
  wait_for test -e "$keep/held"
  start_bg writer qemu-io -f raw -c 'write -P 0xa5 1M 4k' "$S"
  if [ -n "$bug" ]; then
    wait_bg writer
    lose_power "$dir/dirty-map" "$dir/state"
    rm "$keep/hold" "$keep/held"
  else
    wait_for writer_has_come
    lose_power "$dir/dirty-map" "$dir/state"
    end_writer
  fi
  wait_bg cancel || :
  judge
}

for bug in mark_after_write mark_unsynced load_unsynced clear_unflushed \
           pass_while_voided; do
  filter=$BUILD/bug-$bug/nbdkit-migrate-filter.so
  [ -e "$filter" ] || skip "$bug was not built: make planted-bugs"
  planted=$bug
  ! "$planted" || fail "$planted was not caught"
  filter=$sound_filter bug=
  "$planted" || fail "the sound filter failed $planted"
  echo "$planted: caught"
done
