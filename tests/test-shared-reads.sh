#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the migrator reads goes through memory that it shares with the proxy, in
# passes of every kind, with one connection and several, for several disks, for
# a plugin without multi-conn and for a disk that is at a remote place; and the
# copy is right, with a guest at work and a migrator that is killed.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq nbdcopy sha256sum

size=$((6 * 1024 * 1024 + 3 * 512))
S=$(uri proxy) D=$(uri destination)

# start_logged ARGUMENT...: a proxy whose clients' requests are logged.
start_logged ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/requests"
  start_nbdkit proxy --filter=log --filter="$filter" "$@" \
    migrate-dir="$tmp/proxy.dir" logfile="$tmp/requests"
}

is_mapped ()
{
  grep -q nbdmigrate-data "/proc/${pids[proxy]}/maps"
}

is_not_mapped ()
{
  ! is_mapped
}

must_be_shared ()
{
  [ "$(completed 'disks | all(.shared_memory)')" = true ] ||
    fail "the memory was not shared: $(completed disks)"
  wait_for is_not_mapped
}

# Samples apart, nothing was read but by CACHE.
must_be_read_so ()
{
  local longest

  longest=$(logged_lengths Read "$tmp/requests" | sort -n | tail -n 1)
  echo "   $(logged_lengths Cache "$tmp/requests" | wc -l) requests to cache," \
    "the longest to read: ${longest:-none}"
  ((${longest:-0} <= 4096)) || fail "something was read over the connection"
}

# copies ARGUMENT...
copies ()
{
  : > "$tmp/requests"
  must_migrate --finish=detach --restart "$@" "$S" "$D"
  must_be_shared
  must_be_read_so
  same_content "$S" "$D"
}

echo "---- sizes, connections, passes"
head -c $size /dev/urandom > "$tmp/source"
dd if=/dev/zero of="$tmp/source" bs=64K seek=20 count=9 conv=notrunc status=none
truncate -s $size "$tmp/destination"
start_logged file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
copies --verify
copies --connections=1 --request-size=4K
copies --connections=1 --verify --request-size=32M
copies --rate=16M --connections=2
end_bg proxy
start_logged file "$tmp/source" migrate-chunk=16M
copies --verify
end_bg proxy

echo "---- without multi-conn"
start_logged --filter=multi-conn file "$tmp/source" multi-conn-mode=disable
copies --verify
end_bg proxy
end_bg destination

echo "---- several disks with names"
mkdir "$tmp/disks" "$tmp/copies"
pairs=()
for n in a b c; do
  head -c $((size + 4096)) /dev/urandom > "$tmp/disks/$n"
  truncate -s $((size + 4096)) "$tmp/copies/$n"
  pairs+=("$(export_uri proxy $n)" "$(export_uri destination $n)")
done
start_proxy proxy file dir="$tmp/disks" migrate-named-exports=true
start_nbdkit destination file dir="$tmp/copies"
start_migrate --finish=detach --verify --wait "${pairs[@]}"
wait_for has_status "$(export_uri proxy b)" '.progress.phase == "ready"'
must_have_status "$(export_uri proxy b)" '.progress.shared_memory'
"$nbdmigrate" status "$(export_uri proxy b)" | grep 'shared memory'
is_mapped || fail "there is nothing in the maps of the proxy"
"$nbdmigrate" finish --no-wait "$(export_uri proxy c)"
wait_bg migrator || fail "the migration ended with exit status $?"
must_be_shared
for n in a b c; do
  cmp "$tmp/disks/$n" "$tmp/copies/$n"
done
end_bg proxy
end_bg destination

echo "---- a guest at work, the migrator is killed, and the disk moves on"
rm -rf "$tmp/proxy.dir" "$tmp/source"
truncate -s $size "$tmp/source" "$tmp/next"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
start_nbdkit next file "$tmp/next"
fill "$S" 100
start_guest guest "$S" --initial "$pattern" --rate 8M
start_migrate --rate=1M "$S" "$D"
wait_for has_event progress
wait_for is_mapped
crash_bg migrator
wait_for is_not_mapped
guest_goes_on guest
must_migrate --verify "$S" "$D"
must_be_shared
guest_goes_on guest
must_migrate --verify "$S" "$(uri next)"
must_be_shared
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri next)"
end_bg proxy
