#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# migrate-mark: beside the old image there is a file that says so as long as the disk is
# elsewhere, after every way there and back, also if the proxy was killed before it could
# write it; and a file that is no mark, such as somebody's image, is left alone.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd

mark=$tmp/source.img.moved
truncate -s 1M "$tmp/source.img" "$tmp/destination.img"

proxy ()
{
  start_proxy proxy file "$tmp/source.img" migrate-mark="$mark"
}

# They follow when nobody waits for them.
is_marked ()
{
  grep -qsF "The disk is at $1 now" "$mark"
}

is_unmarked ()
{
  [ ! -e "$mark" ]
}

echo "-- a pivot, and the way back"
proxy
start_nbdkit destination file "$tmp/destination.img"
S=$(uri proxy) D=$(uri destination)
must_migrate --finish=detach "$S" "$D"
nbdinfo --size "$S" > "$tmp/size"
is_unmarked || fail "a detach leaves a mark"
must_migrate "$S" "$D"
wait_for is_marked "$D"
cat "$mark"
grep -qF "migrate-dir=$tmp/proxy.dir" "$mark"
grep -qF "'nbdmigrate PROXY local:'" "$mark"
[ "$(stat -c %a "$mark")" = 644 ] || fail "not everybody can read it"
must_migrate "$S" local:
wait_for is_unmarked

echo "-- killed before it could write it"
must_migrate "$S" "$D"
wait_for is_marked "$D"
crash_bg proxy
rm "$mark"
proxy
nbdinfo --size "$S" > "$tmp/size"
wait_for is_marked "$D"

echo "-- the destination has another address"
end_bg destination
start_nbdkit moved file "$tmp/destination.img"
"$nbdmigrate" reopen "$S" "destination=$(uri moved)"
wait_for is_marked "$(uri moved)"
must_migrate "$S" local:
wait_for is_unmarked

echo "-- a handover, taken back"
must_migrate --finish=handover "$S" "$(uri moved)"
wait_for is_marked "$(uri moved)"
expect_status 1 "$nbdmigrate" "$S" local: # so that is not what it tells
grep -qF "'nbdmigrate reopen PROXY owner=source'" "$mark"
"$nbdmigrate" reopen "$S" owner=source
wait_for is_unmarked

echo "-- something else is there"
echo "somebody's image" > "$mark"
cp "$mark" "$tmp/before"
must_migrate "$S" "$(uri moved)"
wait_for grep -qF "$mark, could not be written: there is a file that is no mark" \
  "$tmp/proxy.log"
for ((i = 0; i < 5; i++)); do
  "$nbdmigrate" status "$S" > "$tmp/status"
done
[ "$(grep -cF "there is a file that is no mark" "$tmp/proxy.log")" = 1 ] ||
  fail "it is said again and again"
must_migrate "$S" local:
end_bg proxy
cmp "$mark" "$tmp/before"
rm -f "$tmp/refused.log"
expect_status 1 nbdkit -f -U "$tmp/none.sock" --filter="$filter" \
  file "$tmp/source.img" migrate-dir="$tmp/none.dir" \
  migrate-mark="$tmp/source.img" 2> "$tmp/refused.log"
grep -qF "migrate-mark=$tmp/source.img: there is a file" "$tmp/refused.log"
rm "$mark"

echo "-- the old image with another migrate-dir, and with a new one of that name"
proxy
must_migrate "$S" "$(uri moved)"
wait_for is_marked "$(uri moved)"
end_bg proxy
start_proxy other file "$tmp/source.img" migrate-mark="$mark"
nbdinfo --size "$(uri other)" > "$tmp/size"
wait_for grep -qF "written for another migrate-dir" "$tmp/other.log"
end_bg other
mv "$tmp/proxy.dir" "$tmp/kept.dir"
rm "$tmp/proxy.log"
proxy
nbdinfo --size "$S" > "$tmp/size"
wait_for grep -qF "written for another migrate-dir" "$tmp/proxy.log"
end_bg proxy
is_marked "$(uri moved)" || fail "the old image is marked no more"

echo "-- with a record of its own by now"
start_nbdkit elsewhere memory 1M
proxy
must_migrate --finish=detach "$S" "$(uri elsewhere)"
end_bg proxy
proxy
nbdinfo --size "$S" > "$tmp/size"
wait_for grep -qF "written for another migrate-dir" "$tmp/proxy.log"
end_bg proxy
is_marked "$(uri moved)" || fail "the old image is marked no more"
rm -r "$tmp/proxy.dir"
mv "$tmp/kept.dir" "$tmp/proxy.dir"
proxy
must_migrate "$S" local:
wait_for is_unmarked
end_bg proxy

echo "-- a mark for each export"
mkdir "$tmp/disks"
truncate -s 1M "$tmp/disks/a" "$tmp/disks/b"
start_proxy named file dir="$tmp/disks" migrate-named-exports=true \
  migrate-mark="$mark"
must_migrate "nbd+unix:///b?socket=$tmp/named.sock" "$(uri moved)"
wait_for [ -s "$mark.b" ]
is_unmarked || fail "there is a mark for another export"
[ ! -e "$mark.a" ] || fail "there is a mark for another export"
end_bg named
