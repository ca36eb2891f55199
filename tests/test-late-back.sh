#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 180
#
# nbdmigrate, the proxy and the destination are killed with a write under way, and the
# destination is back later than the proxy: the grace for what may still land there
# counts from then (R17), so that it does not land over what the next run copies.
# Also where the next proxy was stopped before that, or is killed in that time, or where
# another destination comes first.  A filter that counts from its own start is caught.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit nbdinfo jq qemu-io

at_end 'go slow now'
offset=$((8 * 1024 * 1024))

start_it ()
{
  hurried 5 start_proxy proxy file "$tmp/source"
}

write_some ()
{
  qemu-io -f raw -c "write -P $1 $offset 4k" -c flush "$(uri proxy)" \
    > "$tmp/qemu-io.out"
}

restart ()
{
  crash_bg proxy
  start_it
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
}

# comes_back [other]: maybe after a run to another destination.  1: the sides differ.
comes_back ()
{
  local other=${1:-} r=0

  rm -rf "$tmp"/{proxy.dir,slow.img}
  late_forget slow
  # Full, so that no sample is likely to meet what is different.
  head -c 16M /dev/urandom > "$tmp/source"
  truncate -s 16M "$tmp/slow.img"
  start_late slow
  start_it
  write_some 0x11
  cue slow "write queue at=$offset count=1"
  start_migrate "$(uri proxy)" "$(uri slow)"
  wait_for late_has slow 'queued$'
  write_some 0x22
  crash_bg migrator
  crash_bg slow
  restart
  wait_for has_status "$(uri proxy)" '.quiet_ms == 0'
  end_bg proxy
  start_it
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
  wait_for has_status "$(uri proxy)" '.quiet_ms == 0'

  if [ -n "$other" ]; then
    must_migrate --finish=detach "$(uri proxy)" "$(uri other)"
  fi
  cue slow
  go slow apply-reopened
  start_late slow
  start_migrate --wait "$(uri proxy)" "$(uri slow)"
  wait_for is_ready
  wait_for late_has slow 'applied$'
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  wait_bg migrator || r=1
  cmp -s "$tmp/source" "$tmp/slow.img" || r=1
  end_bg proxy
  end_bg slow
  return $r
}

echo "-- the destination is back later than the proxy"
comes_back || fail "the sides differ"

echo "-- and another one comes first"
truncate -s 16M "$tmp/other.img"
start_nbdkit other file "$tmp/other.img"
comes_back other || fail "the sides differ"
end_bg other

echo "-- and the next proxy is killed while it waits: the delay is still known"
rm -rf "$tmp"/{proxy.dir,slow.img}
late_forget slow
truncate -s 16M "$tmp/slow.img"
start_late slow
start_it
cue slow "write hold until=now at=$offset count=1"
start_migrate "$(uri proxy)" "$(uri slow)"
wait_for late_has slow 'came$'
wait_for only_held_is_left slow $((16 * 1024 * 1024))
crash_bg migrator
touch "$tmp/hurry"
wait_for has_status "$(uri proxy)" '.unanswered_ms > 4000'
go slow now
wait_for has_status "$(uri proxy)" '.unanswered_ms == 0'
start_migrate --wait "$(uri proxy)" "$(uri slow)"
wait_for is_ready
rm "$tmp/hurry"
restart
must_have_status "$(uri proxy)" '.quiet_ms > 3000'
wait_bg migrator || :
start_migrate --wait "$(uri proxy)" "$(uri slow)"
wait_for has_status "$(uri proxy)" .session
restart
must_have_status "$(uri proxy)" '.quiet_ms > 3000'
wait_bg migrator || :
touch "$tmp/hurry"
wait_for has_status "$(uri proxy)" '.quiet_ms == 0'
rm "$tmp/hurry"
start_migrate --wait "$(uri proxy)" "$(uri slow)"
wait_for grep -q 'may still be written: waiting' "$tmp/migrator.log"
crash_bg migrator
end_bg proxy
end_bg slow

echo "-- a filter that counts from its own start"
filter=$BUILD/bug-quiet_from_the_start/nbdkit-migrate-filter.so
[ -e "$filter" ] || skip "quiet_from_the_start was not built: make planted-bugs"
# The write lands 300 ms after somebody has connected: a slow machine may copy later.
for i in 1 2 3 4 5; do
  comes_back || exit 0
  echo "it was not faster than the write ($i)"
done
fail "nobody has noticed"
