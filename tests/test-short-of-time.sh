#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# SIGUSR1 and --progress=log tell how far it is; --timeout gives up in good order;
# a second Ctrl-C ends at once what waits for a server, and harms nothing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

size=$((4 * 1024 * 1024))
start_proxy proxy memory $size
start_proxy second memory $size
start_nbdkit destination memory $size
truncate -s $size "$tmp/late.img"
start_late late
S=$(uri proxy) D=$(uri destination) L=$(uri late) S2=$(uri second)
fill "$S" 100

copies ()
{
  [ "$(status .progress.phase)" = bulk ]
}

echo "-- SIGUSR1, of several disks, without a terminal and with --quiet"
start_nbdkit destination2 memory $size
start_migrate --quiet --rate=64K "$S" "$D" "$S2" "$(uri destination2)"
wait_for copies
kill_bg migrator USR1
wait_for grep -q "$S2: .* left" "$tmp/migrator.log"
cat "$tmp/migrator.log"
grep -q '^nbdmigrate: bulk .*% .*/s .*ETA' "$tmp/migrator.log"
grep -q "$S: .* left, .* become dirty" "$tmp/migrator.log"
has_status "$S" '.progress.elapsed_ms > 0'
kill_bg migrator INT
expect_status 3 wait_bg migrator

echo "-- --progress=log"
start_migrate --progress=log --progress-interval=100ms -v --rate=64K "$S" "$D"
log_has_several ()
{
  [ "$(grep -c '^nbdmigrate: bulk .* left' "$tmp/migrator.log")" -ge 3 ]
}
wait_for log_has_several
kill_bg migrator INT
expect_status 3 wait_bg migrator

echo "-- --timeout"
expect_status 4 migrate --timeout=300ms --rate=64K "$S" "$D"
cat "$tmp/migrate.log"
grep -q 'not cut over within --timeout, 300 ms' "$tmp/migrate.log"
tail -n 1 "$tmp/migrate.log" > "$tmp/last"
grep -q 'authoritative; run the same command again to go on' "$tmp/last"
must_have_status "$S" '.session == false and .last_end == "interrupted"'
[ "$(event 'last | .event + (.status | tostring)')" = failed4 ]
must_migrate --timeout=1h --finish=detach -v "$S" "$D"
grep -q '^nbdmigrate: next: pause (' "$tmp/migrate.log"
[ "$(event 'map(select(.event == "started")) | .[0].disks[0].resumed')" = true ]
same_content "$S" "$D"

echo "-- interrupted twice"
cue late 'write hold until=go'
start_migrate "$S" "$L"
wait_for late_has late 'came$'
kill_bg migrator INT
wait_for grep -q 'interrupted by SIGINT: letting' "$tmp/migrator.log"
kill_bg migrator INT
expect_status 3 wait_bg migrator
grep -q 'interrupted again: ending at once' "$tmp/migrator.log"
tail -n 1 "$tmp/migrator.log" > "$tmp/last"
grep -q "$S is intact and authoritative" "$tmp/last"
cue late
go late go
must_migrate "$S" "$L"
end_bg proxy # nothing is lost of what it relays to
same_content "$D" "$L"
