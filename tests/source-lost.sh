# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# A source whose plugin is a client of another server (nbdkit's nbd plugin): that
# server crashes and loses what a guest had not flushed, when the destination has it
# already.  Sourced after functions.sh, which sets what is used here.
# shellcheck disable=SC2154

S=$(uri proxy) D=$(uri destination)
size=$((4 * 1024 * 1024))
multi_conn=1 # 0: all connections share one context

start_remote ()
{
  start_nbdkit remote "$BUILD/tests/nbdkit-lossy-plugin.so" file="$tmp/source" \
    multi-conn=$multi_conn
}

start_middle ()
{
  start_proxy proxy nbd uri="$(uri remote)" migrate-chunk=65536
}

is_copied ()
{
  [ "$(status '.dirty_bytes + .unflushed_bytes + .leased_bytes')" = 0 ]
}

is_unmarked ()
{
  has_status "$S" '.dirty_map.marked_bytes == 0'
}

# Either all marks are gone, or something is to be copied again.
has_looked ()
{
  has_status "$S" '.dirty_map.marked_bytes == 0 or .dirty_bytes > 0'
}

# The server has lost the block, and is there again.  1: it had been flushed.
lose_block ()
{
  nbdcopy "$tmp/block" "$S" # without a flush
  wait_for is_copied
  crash_bg remote
  ! cmp -s -n 4096 "$tmp/block" "$tmp/source" || return
  start_remote
}

# All is copied but for a block of the guest's, which the keeper has not flushed:
# it does so at most every five seconds, and has just done it.
in_sync_and_lost ()
{
  local i

  for ((i = 0; i < 5; i++)); do
    rm -rf "$tmp/proxy.dir" "$tmp/destination"
    head -c $size /dev/urandom > "$tmp/source"
    head -c 4096 /dev/urandom > "$tmp/block"
    truncate -s $size "$tmp/destination"
    start_remote
    start_middle
    start_nbdkit destination file "$tmp/destination"
    start_migrate --wait --finish=detach "$S" "$D"
    wait_for is_ready
    wait_for is_unmarked
    ! lose_block || return 0
    kill_bg migrator INT
    wait_bg migrator || :
    end_bg proxy
    end_bg destination
  done
  fail "the block was flushed each time"
}

# judge RESULT: of the migration, if it was 0, or of the next one.  1: the sides
# differ, or that one has found them to.
judge ()
{
  local result=$1

  if [ "$result" -ne 0 ]; then
    result=0
    migrate --finish=detach "$S" "$D" || result=$?
  fi
  end_bg proxy
  end_bg remote
  end_bg destination
  [ "$result" -eq 0 ] || cat "$tmp/migrate.log"
  [ "$result" -eq 0 ] && cmp "$tmp/source" "$tmp/destination"
}

# The migration that was there ends.
finish_it ()
{
  local result=0

  in_sync_and_lost
  "$nbdmigrate" finish "$S" > "$tmp/finish.out" 2>&1 || :
  wait_bg migrator || result=$?
  echo "it ended with $result"
  judge $result
}

# It is interrupted; then the source is flushed, and the proxy is started again.
restart_proxy ()
{
  in_sync_and_lost
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
  wait_for has_looked
  end_bg proxy
  start_middle
  judge 1
}

# It ends, and the next one, with another context, where all share one.
share_one ()
{
  local multi_conn=0

  finish_it
}
