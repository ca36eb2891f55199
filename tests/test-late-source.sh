#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# A disk that moves on, from a slow server, and the proxy is killed with a guest's
# write under way there.  What lands at the source after the next proxy has begun is
# copied, too (R17): nothing is copied before, and if it takes longer than anybody
# waits, what may be different is copied once more.  A filter that leaves that out is
# caught: where the guest has read the new data, it reads the old ones after the pivot.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit nbdinfo jq qemu-io

disk=64M # so large that no sample is likely to meet what is different
at_end 'go slow now; go slow late'

write_has ()
{
  late_has slow "write 0 .* $1\$" "$2"
}

start_it ()
{
  hurried 5 start_proxy proxy memory $disk
}

write_some ()
{
  start_bg guest qemu-io -f raw -c "write -P $1 0 4k" "$(uri proxy)"
}

start_again ()
{
  start_migrate --wait "$(uri proxy)" "$(uri next)"
}

# What the guest reads.
read_it ()
{
  nbdcopy "$(uri proxy)" - | head -c 4096 | od -A n -t x1 | sort -u
}

# The first delay of the source is that long, in milliseconds.
kill_it ()
{
  rm -rf "$tmp"/{proxy.dir,slow.img,next.img,hurry}
  truncate -s $disk "$tmp/slow.img" "$tmp/next.img"
  late_forget slow
  start_late slow
  start_nbdkit next file "$tmp/next.img"
  start_it
  must_migrate "$(uri proxy)" "$(uri slow)"
  cue slow 'write hold until=now at=0 count=1'
  write_some 0x53
  wait_for write_has came 1
  touch "$tmp/hurry"
  wait_for has_status "$(uri proxy)" ".relay.oldest_request_ms > $1"
  rm "$tmp/hurry"
  go slow now
  wait_bg guest || fail "the guest's write failed"

  start_again
  wait_for is_ready
  cue slow 'write hold until=late at=0 count=1'
  write_some 0x77
  wait_for write_has came 2
  crash_bg proxy
  wait_bg guest || : # it was cut off
  expect_status 1 wait_bg migrator
  start_it
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
}

# 1: the guest's disk is not as it was.
pivots ()
{
  local before

  before=$(read_it)
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  wait_bg migrator || return 1
  [ "$(status .place)" = "$(uri next)" ]
  [ "$(read_it)" = "$before" ] || return 1
}

stop_it ()
{
  local name

  for name in proxy next slow; do
    end_bg $name
  done
}

# It is waited for: 'begin' has not answered.
short ()
{
  kill_it 4000
  start_again
  wait_for has_status "$(uri proxy)" '.session'
  must_have_status "$(uri proxy)" \
    '.source_late_ms > 0 and .quiet_ms > 0 and .dirty_bytes > 0'
  go slow late
  wait_for write_has landed 2
  touch "$tmp/hurry"
  wait_for is_ready
  pivots || fail "what the guest had read was undone"
  stop_it
}

# Longer than anybody waits: it lands when it was copied.
long ()
{
  local r=0

  kill_it 16000
  start_again
  touch "$tmp/hurry"
  wait_for has_status "$(uri proxy)" '.progress.phase == "late-writes"'
  rm "$tmp/hurry"
  must_have_status "$(uri proxy)" '.source_late_ms > 0 and .dirty_bytes == 0'
  go slow late
  wait_for write_has landed 2
  touch "$tmp/hurry"
  wait_for is_ready
  pivots || r=1
  stop_it
  return $r
}

echo "-- it is waited for"
short
echo "-- it takes longer than is waited for"
long || fail "what the guest had read was undone"
echo "-- a filter that does not look at it again"
filter=$BUILD/bug-late_source_is_clean/nbdkit-migrate-filter.so
[ -e "$filter" ] || skip "late_source_is_clean was not built: make planted-bugs"
! long || fail "nobody has noticed"
