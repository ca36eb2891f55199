#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A plugin without multi-conn: all connections share one context.  A write is
# under way while a flush begins and ends, is acknowledged then, and is lost when
# the server behind the plugin is killed: the guest's next flush tells (R13).
#
# timeout: 60

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit nbdcopy
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

truncate -s 4M "$tmp/slow.img"
start_late slow volatile=1 multi-conn=0
start_proxy proxy nbd socket="$tmp/slow.sock"
nbdcopy "$(uri proxy)" null:

cat > "$tmp/guest.py" <<'END_OF_GUEST'
import sys
import nbd

h = nbd.NBD ()
h.connect_uri (sys.argv[1])
cues = open (sys.argv[2])

def wait (cookie):
    while not h.aio_command_completed (cookie):
        h.poll (-1)

def say (text):
    print (text, flush=True)
    cues.readline ()

w = h.aio_pwrite (nbd.Buffer.from_bytearray (bytearray (b"w" * 4096)), 0)
while h.aio_get_direction () & nbd.AIO_DIRECTION_WRITE:
    h.poll (-1)
say ("sent")
h.flush ()
say ("flushed meanwhile")
wait (w)
say ("written")
for i in range (2):
    try:
        h.flush ()
        print ("flushed")
    except nbd.Error as e:
        print ("failed")
END_OF_GUEST
mkfifo "$tmp/to"
cue slow 'write hold until=now at=0 count=1'
start_bg guest /usr/bin/python3 "$tmp/guest.py" "$(uri proxy)" "$tmp/to"
exec 3> "$tmp/to"
wait_for grep -q sent "$tmp/guest.out"
wait_for late_has slow 'write 0 .* came$'
echo >&3
wait_for grep -q 'flushed meanwhile' "$tmp/guest.out"
go slow now
echo >&3
wait_for grep -q written "$tmp/guest.out"

crash_bg slow
expect_status 1 nbdcopy "$(uri proxy)" null: 2> "$tmp/down.log"
late_forget slow
start_late slow volatile=1 multi-conn=0
nbdcopy "$(uri proxy)" null:
echo >&3
exec 3>&-
wait_bg guest
tail -n 2 "$tmp/guest.out" | paste -sd , > "$tmp/said"
grep -qx 'failed,flushed' "$tmp/said" || fail "the flush says: $(< "$tmp/said")"
end_bg proxy
end_bg slow
