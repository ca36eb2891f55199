#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# SIGTERM ends a proxy that has not reached the place of a disk: one that has moved
# on, whose next migration was interrupted and has a dirty map.  And what the guests
# of another disk of the same proxy were told is done is kept (R13, R14).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

mkdir "$tmp/disks"
truncate -s 1M "$tmp/disks/a" "$tmp/disks/b" "$tmp/other"

start_it ()
{
  start_proxy proxy file dir="$tmp/disks" migrate-named-exports=true
}

disk ()
{
  echo "nbd+unix:///$1?socket=$tmp/proxy.sock"
}

echo "-- disk a moves on, and is interrupted"
start_it
start_nbdkit place memory 1M
start_nbdkit next memory 1M
start_nbdkit other file "$tmp/other"
must_migrate "$(disk a)" "$(uri place)"
must_migrate "$(disk b)" "$(uri other)"
start_migrate --wait "$(disk a)" "$(uri next)"
wait_for has_status "$(disk a)" '.progress.phase == "ready"'
crash_bg migrator
wait_for has_status "$(disk a)" '.session | not'
end_bg proxy

echo "-- its place is away, and disk b has writes that are not flushed"
end_bg place
start_it
/usr/bin/python3 -c 'import sys, nbd
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b"u" * 4096, 0)' "$(disk b)"
crash_bg other
expect_status 1 nbdinfo --size "$(disk a)" > "$tmp/size" 2>&1
end_bg proxy
grep -q '4096 bytes that were acknowledged: they are kept' "$tmp/proxy.log" ||
  fail "the write is not kept"

echo "-- it is there again"
truncate -s 0 "$tmp/other"
truncate -s 1M "$tmp/other"
start_nbdkit other file "$tmp/other"
start_nbdkit place memory 1M
start_it
nbdinfo --size "$(disk b)" > "$tmp/size"
[ "$(head -c 4096 "$tmp/other" | tr -d u | wc -c)" -eq 0 ] || fail "it is lost"
must_have_status "$(disk a)" '.last_end == "interrupted"'
