#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A plugin without multi-conn: all connections share one context.  The server
# behind it is killed and started again, after which that context is of no use:
# a guest that connects then reads again, as without the filter, and the disk
# can be migrated.  A guest that had written without a flush is told by its next
# one (R13).  A plugin that serves one call at a time is asked one thing at a
# time, whatever it is.
#
# timeout: 60

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdcopy
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

size=$((4 * 1024 * 1024))
truncate -s $size "$tmp/disk" "$tmp/destination"
start_server ()
{
  start_nbdkit server --filter=multi-conn file "$tmp/disk" \
    multi-conn-mode=disable
}

start_server
start_proxy proxy nbd socket="$tmp/server.sock"
start_nbdkit destination file "$tmp/destination"
nbdcopy "$(uri proxy)" "$tmp/copy"

cat > "$tmp/guest.py" <<'END'
import sys
import nbd

h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b"a" * 4096, 0)
h.flush ()
h.pwrite (b"b" * 4096, 65536)
print ("written", flush=True)
open (sys.argv[2]).readline ()
for i in range (2):
    try:
        h.flush ()
        print ("flushed")
    except nbd.Error as e:
        print ("failed")
END
mkfifo "$tmp/to"
start_bg guest /usr/bin/python3 "$tmp/guest.py" "$(uri proxy)" "$tmp/to"
wait_for grep -q written "$tmp/guest.out"

crash_bg server
expect_status 1 nbdcopy "$(uri proxy)" "$tmp/copy" 2> "$tmp/down.log"
start_server
echo "-- a new guest reads"
nbdcopy "$(uri proxy)" "$tmp/copy"
cmp "$tmp/copy" "$tmp/disk"

echo "-- the old one is told once that what it wrote may be lost"
echo go > "$tmp/to"
wait_bg guest || fail "the guest ended with exit status $?"
[ "$(cat "$tmp/guest.out")" = $'written\nfailed\nflushed' ] ||
  fail "$(cat "$tmp/guest.out")"

echo "-- and the disk can be moved"
must_migrate "$(uri proxy)" "$(uri destination)"
same_content "$(uri proxy)" "$(uri destination)"
cmp "$tmp/disk" "$tmp/destination"
end_bg proxy

echo "-- one call at a time"
start_proxy proxy "$BUILD/tests/nbdkit-alone-plugin.so"
start_bg reader nbdcopy "$(uri proxy)" null: --requests=4 --request-size=4096
asking=()
for i in {1..20}; do
  nbdinfo "$(uri proxy)" > "$tmp/info.$i" &
  asking+=($!)
done
wait_bg reader
wait "${asking[@]}"
end_bg proxy
grep -q 'overlapping calls: 0$' "$tmp/proxy.log" ||
  fail "$(tail -n 1 "$tmp/proxy.log")"
