#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination that was lost and comes back as something else is not written
# to; one that does not come back is waited for as long as --reconnect says; and
# whoever wants to end the waiting can.  The guest goes on at its source.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

start_proxy proxy memory 4M
fill "$(uri proxy)" 70
truncate -s 4M "$tmp/disk" "$tmp/other"
truncate -s 2M "$tmp/small"

# begin WHAT [OPTION...]: in sync with a destination that is lost then.
begin ()
{
  echo "-- $1"
  start_nbdkit destination file "$tmp/disk"
  start_migrate --wait --finish=detach "${@:2}" "$(uri proxy)" \
    "$(uri destination)"
  wait_for is_ready
  lose destination
}

# end STATUS TEXT: so it ends, and nothing was written to another disk.
end ()
{
  must_end "$@"
  cmp "$tmp/other" /dev/zero -n 4194304
  must_have_status "$(uri proxy)" '.owner == "source" and .gate == "open" and
    (.session | not)'
  [ -z "${pids[destination]:-}" ] || end_bg destination
}

begin "it comes back smaller"
start_nbdkit destination file "$tmp/small"
end 1 'destination .* has come back, .*: bytes: 4194304 before, 2097152 now'

begin "it comes back read-only"
start_nbdkit destination -r file "$tmp/disk"
end 1 'has come back, .*: read-only: 0 before, 1 now'

begin "an empty disk comes back"
start_nbdkit destination file "$tmp/other"
end 1 'has come back, and does not hold what was flushed there: the chunk at'

echo "-- another disk comes back before anything was flushed: all is copied to it"
head -c 4M /dev/urandom > "$tmp/destination.img"
cp "$tmp/destination.img" "$tmp/third"
start_late destination
start_migrate --finish=detach --restart --rate=200K "$(uri proxy)" \
  "$(uri destination)"
wait_for has_event started
cue destination 'flush hang'
wait_for has_status "$(uri proxy)" '.progress.copied_bytes > 0'
lose destination
must_have_status "$(uri proxy)" '.dirty_bytes == .disk_bytes'
start_nbdkit destination file "$tmp/third"
wait_for has_events reconnected 1
"$nbdmigrate" set "$(uri proxy)" rate=200M
wait_bg migrator || fail "the migrator ended with exit status $?"
losses=0
same_content "$(uri proxy)" "$(uri destination)"
end_bg destination

begin "it does not come back" --reconnect=1s
end 1 'connecting again was tried for 1\.[0-9] s \(--reconnect\), [0-9]+ times'

begin "SIGTERM"
kill_bg migrator TERM
end 3 'interrupted by SIGTERM'

begin "cancel"
"$nbdmigrate" cancel "$(uri proxy)"
end 3 'cancelled by request'

echo "-- it is not waited for"
start_nbdkit destination file "$tmp/disk"
start_migrate --finish=detach --restart --rate=500K --reconnect=0 \
  "$(uri proxy)" "$(uri destination)"
wait_for has_status "$(uri proxy)" '.progress.copied_bytes > 0'
crash_bg destination
must_end 1 '(writing|flushing) .*: the connection broke'
[ "$(event 'map(select(.event == "lost")) | length')" = 0 ]

begin "the proxy is killed, too"
crash_bg proxy
must_end 1 'the proxy of .* has gone'
