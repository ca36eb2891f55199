#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# A disk whose plugin is a client of a slow server (nbdkit's nbd plugin), and the proxy
# is killed with a guest's write under way there.  What lands after the next proxy has
# begun is copied, too (R17), as it is where the disk is in a remote place
# (test-late-source), and so it is where the plugin has lost a connection and the proxy
# lives: nothing is copied before, and if it takes longer than anybody
# waits, what may be different is copied once more.  How long the server took is known
# before it has answered, and where no migration has ever begun.  A filter that does not
# look after the plugin's writes is caught.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
# shellcheck source=tests/disks.sh
source "${SRCDIR:-.}/tests/disks.sh"
requires nbdkit nbdinfo nbdcopy jq qemu-io
nbdkit nbd --dump-plugin > "$tmp/dump" 2>&1 || skip "nbdkit has no nbd plugin"

disk=64M # so large that no sample is likely to meet what is different
at_end 'go slow late'

write_has ()
{
  late_has slow "write 0 .* $1\$"
}

start_it ()
{
  hurried 5 start_proxy proxy nbd uri="$(uri slow)"
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

# It is killed when a write has been under way for so long, in milliseconds; at least
# half of that is recorded.
kill_it ()
{
  rm -rf "$tmp"/{proxy.dir,slow.img,next.img,hurry}
  truncate -s $disk "$tmp/slow.img" "$tmp/next.img"
  late_forget slow
  start_late slow
  start_nbdkit next file "$tmp/next.img"
  start_it
  cue slow 'write hold until=late at=0 count=1'
  start_bg guest qemu-io -f raw -c 'write -P 0x77 0 4k' "$(uri proxy)"
  wait_for write_has came
  touch "$tmp/hurry"
  wait_for has_status "$(uri proxy)" ".source_delay_ms > $1"
  rm "$tmp/hurry"
  crash_bg proxy
  wait_bg guest || : # it was cut off
  start_it
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
}

# 1: the guest's disk is not as it was.
pivots ()
{
  local before

  rm -f "$tmp/hurry" # or the pause is a fifth as long
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

# 'begin' has not answered before it has landed.
waits_and_moves ()
{
  start_again
  wait_for has_status "$(uri proxy)" '.session'
  must_have_status "$(uri proxy)" \
    '.source_late_ms > 0 and .quiet_ms > 0 and .dirty_bytes > 0'
  go slow late
  wait_for write_has landed
  touch "$tmp/hurry"
  wait_for is_ready
  pivots || fail "what the guest had read was undone"
}

# It is waited for.
short ()
{
  kill_it 16000
  waits_and_moves
  stop_it
}

# Longer than anybody waits: it lands when it was copied.
long ()
{
  local r=0

  kill_it 64000
  start_again
  touch "$tmp/hurry"
  wait_for has_status "$(uri proxy)" '.progress.phase != null'
  rm "$tmp/hurry"
  wait_for has_status "$(uri proxy)" '.progress.phase == "late-writes"'
  must_have_status "$(uri proxy)" '.source_late_ms > 0 and .dirty_bytes == 0'
  go slow late
  wait_for write_has landed
  touch "$tmp/hurry"
  wait_for is_ready
  pivots || r=1
  stop_it
  return $r
}

# What an export has taken is measured from when that was there, also where others are
# written to just then.
opens_late ()
{
  rm -rf "$tmp"/{proxy.dir,slow.img,hurry}
  truncate -s $disk "$tmp/slow.img"
  late_forget slow
  mkdir -p "$tmp/slow.cue"
  start_proxy proxy "$BUILD/tests/nbdkit-late-plugin.so" file="$tmp/slow.img" \
    cue="$tmp/slow.cue" migrate-named-exports=true
  cue slow 'write hold until=late count=2'
  start_bg guest qemu-io -f raw -c 'write -P 0x77 0 4k' "$(export_uri proxy a)"
  wait_for late_has slow 'came$' 1
  start_bg second qemu-io -f raw -c 'write -P 0x77 4k 4k' "$(export_uri proxy b)"
  wait_for late_has slow 'came$' 2
  wait_for has_status "$(export_uri proxy b)" '.source_delay_ms > 0'
  must_have_status "$(export_uri proxy b)" '.source_delay_ms < 15000'
  go slow late
  wait_bg guest
  wait_bg second
  end_bg proxy
}

# The proxy lives; what is between it and the server is killed.
between ()
{
  rm -rf "$tmp"/{proxy.dir,slow.img,next.img,hurry}
  truncate -s $disk "$tmp/slow.img" "$tmp/next.img"
  late_forget slow
  start_late slow
  start_nbdkit next file "$tmp/next.img"
  start_nbdkit middle nbd uri="$(uri slow)"
  hurried 5 start_proxy proxy nbd uri="$(uri middle)"
  start_again
  wait_for is_ready
  cue slow 'write hold until=late at=0 count=1'
  start_bg guest qemu-io -f raw -c 'write -P 0x77 0 4k' "$(uri proxy)"
  wait_for write_has came
  touch "$tmp/hurry"
  wait_for has_status "$(uri proxy)" '.source_delay_ms > 16000'
  rm "$tmp/hurry"
  crash_bg middle
  start_nbdkit middle nbd uri="$(uri slow)"
  wait_bg guest || : # it was told so
  expect_status 1 wait_bg migrator
  waits_and_moves
  stop_it
  end_bg middle
}

echo "-- an export is opened while another one is written to"
opens_late
echo "-- a connection of the plugin's is lost"
between
echo "-- it is waited for"
short
echo "-- it takes longer than is waited for"
long || fail "what the guest had read was undone"
echo "-- a filter that does not look at it again"
filter=$BUILD/bug-late_source_is_clean/nbdkit-migrate-filter.so
[ -e "$filter" ] || skip "late_source_is_clean was not built: make planted-bugs"
! long || fail "nobody has noticed"
