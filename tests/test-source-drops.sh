#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A plugin fails a guest's flush, drops what that was about, and goes on, as a page cache
# may; the destination has it already.  What the guest has read since is what it reads
# after the pivot (R14): that is copied again.  A filter that takes it for copied is
# caught.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit jq
# shellcheck source=tests/failing-source.sh
source "$SRCDIR/tests/failing-source.sh"

disk=64M # so large that no sample is likely to meet what is different

is_unmarked ()
{
  has_status "$(uri proxy)" '.dirty_map.marked_bytes == 0'
}

# moves MULTI-CONN REQUEST: one that fails; 1: it is not as the guest has read it.
moves ()
{
  local before r=0

  rm -rf "$tmp"/{proxy.dir,disk.img,next.img}
  truncate -s $disk "$tmp/disk.img" "$tmp/next.img"
  late_forget disk
  mkdir -p "$tmp/disk.cue"
  start_nbdkit next file "$tmp/next.img"
  start_proxy proxy "$BUILD/tests/nbdkit-late-plugin.so" file="$tmp/disk.img" \
    cue="$tmp/disk.cue" volatile=1 multi-conn="$1"
  guest 'h.pwrite (b"old " * 1024, 0)
h.flush ()'
  start_migrate --wait "$(uri proxy)" "$(uri next)"
  wait_for is_ready
  # The filter flushes every five seconds at most, and has just done it; if it does so
  # again already, that drops the same.
  wait_for is_unmarked
  cue disk 'flush fail drops=1' 'write fail drops=1 at=1048576'
  guest 'h.pwrite (b"new " * 1024, 0)'
  wait_for is_copied
  expect_status 1 guest "$2" 2> "$tmp/guest.log"
  grep -q 'Input/output error' "$tmp/guest.log"
  cue disk
  before=$(read_it)
  [ "$before" = "bytearray(b'old ')" ] || fail "the plugin has dropped nothing"

  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  wait_bg migrator || r=1
  if ((r == 0)); then
    [ "$(status .place)" = "$(uri next)" ]
    [ "$(read_it)" = "$before" ] || r=1
  fi
  end_bg proxy
  end_bg next
  return $r
}

flushes ()
{
  moves "$1" 'h.flush ()'
}

# Of something else.
writes_durably ()
{
  moves 1 'h.pwrite (b"more" * 1024, 1 << 20, nbd.CMD_FLAG_FUA)'
}

for multi_conn in 1 0; do
  echo "-- multi-conn=$multi_conn"
  flushes $multi_conn || fail "what the guest had read was undone"
  grep -q 'the plugin has failed a flush' "$tmp/proxy.log" ||
    fail "it is not said"
done
echo "-- a write with FUA"
writes_durably || fail "what the guest had read was undone"

echo "-- what it refuses it has not lost"
rm -rf "$tmp/proxy.dir"
start_nbdkit next memory 1M
# shellcheck disable=SC2016 # of the plugin's shell
start_proxy proxy eval thread_model='echo parallel' get_size='echo 1M' \
  can_write='exit 0' can_flush='exit 0' flush='exit 0' can_fua='echo native' \
  can_zero='exit 0' can_fast_zero='exit 0' \
  pread='head -c "$3" /dev/zero' pwrite='cat > /dev/null' \
  zero='case "$5" in *fast*) echo EOPNOTSUPP >&2; exit 1 ;; esac'
start_migrate --wait "$(uri proxy)" "$(uri next)"
wait_for is_ready
guest 'try:
  h.zero (65536, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
except nbd.Error as error:
  sys.exit (error.errno != "EOPNOTSUPP" and error.errno != "ENOTSUP")
sys.exit ("it was not refused")'
! grep -q 'the plugin has failed a flush' "$tmp/proxy.log" || fail "it counts as lost"
kill_bg migrator TERM
expect_status 3 wait_bg migrator
end_bg proxy
end_bg next

filter=$BUILD/bug-failed_source_is_clean/nbdkit-migrate-filter.so
[ -e "$filter" ] ||
  skip "failed_source_is_clean was not built: make planted-bugs"
! flushes 1 || fail "nobody has noticed"
