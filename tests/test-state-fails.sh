#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What has to be safe is so before anything is written that may fail: a
# destination that was lost is lost although its history could not be written
# (R6a).  And a pivot of which it was not known whether it was recorded is
# settled by reopen as if it had been: nothing is tracked any more.  What the
# place that the disk was to leave had not flushed by then is kept for it (R13).
# And a delay that cannot be recorded is not tried, and said, every second.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit nbdinfo jq
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

size=$((1024 * 1024))

# start_failing FILES [OPTION...]: the steps of their writing fail while "arm" is there.
start_failing ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/arm"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy.dir \
    CRASH_FILES=$1 CRASH_ARM=$tmp/arm CRASH_HOW=fail CRASH_AT=1 \
    CRASH_TO=1000 start_proxy proxy memory $size "${@:2}"
  nbdinfo --size "$(uri proxy)" > "$tmp/size"
}

echo "-- a loss whose history cannot be written"
start_failing history
start_talker proxy
talk attach
talk begin '{"destination": "nbd://localhost:1/"}'
epoch=$(answered .return.epoch)
talk take '{"cursor": 0, "max_bytes": 1073741824}'
extents=$(answered '.return.extents | map(.[0:2]) | tojson')
talk "done" "{\"extents\": $extents, \"epoch\": $epoch}"
touch "$tmp/arm"
ask lost
[ "$(answered .error.class)" = Failed ] || fail "lost: $answer"
talk status
[ "$(answered .return.epoch)" -gt "$epoch" ] || fail "the epoch is as it was"
[ "$(answered .return.unflushed_bytes)" -eq 0 ]
[ "$(answered .return.dirty_bytes)" -eq $size ]
rm "$tmp/arm"
stop_talker
end_bg proxy

echo "-- a pivot that may have been recorded"
start_failing state
start_nbdkit destination memory $size
start_migrate --wait "$(uri proxy)" "$(uri destination)"
wait_for is_ready
touch "$tmp/arm"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
expect_status 5 wait_bg migrator
must_have_status "$tmp/proxy.dir" '.owner == "unknown"'
wait_for grep -q 'notice: .*; its owner is: unknown (it may be either)' \
  "$tmp/proxy.log"
rm "$tmp/arm"
"$nbdmigrate" reopen "$tmp/proxy.dir" owner=destination
must_have_status "$tmp/proxy.dir" '.owner == "destination"'
must_have_status "$tmp/proxy.dir" '.tracking == false'
end_bg proxy
end_bg destination

# guest STATEMENT: of one that does not flush when it goes.
guest ()
{
  /usr/bin/python3 -c "import sys, nbd
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
$1" "$(uri proxy)"
}

is_in_sync ()
{
  has_status "$tmp/proxy.dir" '.remaining_bytes + .unflushed_bytes == 0'
}

echo "-- the same from a place that does not flush, and crashes"
start_failing state
truncate -s $size "$tmp/here.img"
start_late here volatile=1
must_migrate "$(uri proxy)" "$(uri here)"
start_nbdkit there memory $size
start_migrate --wait "$(uri proxy)" "$(uri there)"
wait_for is_ready
guest 'h.pwrite (b"S" * 4096, 0)'
wait_for is_in_sync
cue here 'flush hang'
touch "$tmp/arm"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
expect_status 5 wait_bg migrator
crash_bg here
late_forget here
start_late here volatile=1
rm "$tmp/arm"
"$nbdmigrate" reopen "$tmp/proxy.dir" owner=source
guest 'print (h.pread (4096, 0) == b"S" * 4096)' > "$tmp/read"
grep -qx True "$tmp/read" || fail "an acknowledged write is gone"
end_bg proxy
end_bg here

echo "-- the record could not be written, and what the place did not flush is kept"
start_failing state migrate-state-sync=false # only the record's own steps
late_forget here
start_late here volatile=1
must_migrate "$(uri proxy)" "$(uri here)"
guest 'h.pwrite (b"K" * 4096, 0)'
cue here 'flush hang'
touch "$tmp/arm"
start_migrate "$(uri proxy)" "$(uri there)"
expect_status 1 wait_bg migrator
grep -q 'the state file could not be written' "$tmp/migrator.log" ||
  fail "$(cat "$tmp/migrator.log")"
rm "$tmp/arm"
end_bg proxy
crash_bg here
late_forget here
start_late here volatile=1
start_proxy proxy memory $size
guest 'print (h.pread (4096, 0) == b"K" * 4096)' > "$tmp/read"
grep -qx True "$tmp/read" || fail "an acknowledged write is gone"
end_bg proxy

is_old ()
{
  has_status "$(uri proxy)" '.relay.oldest_request_ms >= 6000'
}

# One that is unanswered for longer and longer would be recorded every second.
echo "-- a delay that cannot be recorded"
start_failing state
end_bg here
late_forget here
start_late here
must_migrate "$(uri proxy)" "$(uri here)"
cue here 'write hold until=now at=0'
touch "$tmp/arm"
start_bg writer /usr/bin/python3 -c "import sys, nbd
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b'D' * 4096, 0)" "$(uri proxy)"
wait_for is_old
failures=$(grep -c 'recording that the owner' "$tmp/proxy.log") || :
((failures >= 1 && failures <= 2)) || fail "it was tried $failures times"
go here now
wait_bg writer
rm "$tmp/arm"
end_bg proxy
