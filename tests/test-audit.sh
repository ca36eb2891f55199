#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The proxy's log has a line for each change of the disk's owner, and who asked
# for it; it is no error, and the journal and syslog are told so.  That a server
# is back is none either.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

truncate -s 1M "$tmp/disk" "$tmp/there" "$tmp/copy"
start_proxy proxy file "$tmp/disk"
start_nbdkit copy file "$tmp/copy"
start_nbdkit there file "$tmp/there"

# says TEXT: as a notice of the proxy, and the last one.
says ()
{
  wait_for grep -qF "nbdkit: notice: migrate: export \"\": $1" \
    "$tmp/proxy.log"
}

asked="asked for by process [0-9]* of user $(id -u)"

echo "-- a detach, and a migration that is cancelled"
must_migrate --finish=detach "$(uri proxy)" "$(uri copy)"
says "a migration from the local image to $(uri copy) begins, asked for by"
says "the migration to $(uri copy) has ended (detached); its owner is: source"
start_migrate --wait --finish=pivot "$(uri proxy)" "$(uri there)"
wait_for is_ready
"$nbdmigrate" cancel "$(uri proxy)"
wait_bg migrator || [ $? -eq 3 ] || fail "it was not cancelled"
says "the migration to $(uri there) has ended (interrupted); its owner is: source"
says "the migration to $(uri there) is cancelled, and none goes on with it"

echo "-- a pivot"
must_migrate "$(uri proxy)" "$(uri there)"
says "pivoted from the local image to $(uri there): its owner is: destination"

echo "-- the server is away, and back"
crash_bg there
wait_for grep -q 'nbdkit: error: .* lost (.*), connecting again' "$tmp/proxy.log"
start_nbdkit there file "$tmp/there"
says "server $(uri there): back after"
! grep -q 'nbdkit: error: .* back after' "$tmp/proxy.log" ||
  fail "good news are an error"

echo "-- reopened at another address"
crash_bg there
start_nbdkit moved file "$tmp/there"
"$nbdmigrate" reopen "$(uri proxy)" destination="$(uri moved)"
says "reopened: its owner is: destination ($(uri moved)), asked for by"

echo "-- and back"
must_migrate "$(uri proxy)" local:
says "pivoted from $(uri moved) to the local image: its owner is: destination, asked"
must_migrate "$(uri proxy)" "$(uri moved)"
says "pivoted from the local image to $(uri moved): its owner is: destination"
grep 'notice' "$tmp/proxy.log" | grep -v 'server .*: back after' \
  > "$tmp/notices" || fail "there are none"
! grep -v "$asked" "$tmp/notices" || fail "who asked is missing"
end_bg proxy

echo "-- in the journal"
# What the service manager says stderr is.
rm -f "$tmp/proxy.pid" "$tmp/proxy.sock"
sh -c 'exec 2>> "$1"; shift
       JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr) exec "$@"' - \
  "$tmp/journal" nbdkit -f -U "$tmp/proxy.sock" -P "$tmp/proxy.pid" \
  --filter="$filter" file "$tmp/disk" migrate-dir="$tmp/proxy.dir" &
pids[proxy]=$! names+=(proxy)
wait_for server_is_up proxy
crash_bg moved
start_nbdkit there file "$tmp/there"
"$nbdmigrate" reopen "$tmp/proxy.dir" destination="$(uri there)"
wait_for grep -q '^<5>nbdkit: notice: migrate: .*reopened' "$tmp/journal"
end_bg proxy

echo "-- where nobody reads it"
mkfifo "$tmp/unread"
exec 8<> "$tmp/unread"
dd if=/dev/zero of="$tmp/unread" bs=4096 count=1024 oflag=nonblock \
  2> "$tmp/dd.log" || : # it is full then
rm -rf "$tmp/proxy.pid" "$tmp/proxy.sock" "$tmp/proxy.dir"
nbdkit -f -U "$tmp/proxy.sock" -P "$tmp/proxy.pid" --filter="$filter" \
  file "$tmp/disk" migrate-dir="$tmp/proxy.dir" 2> "$tmp/unread" 8<&- &
pids[proxy]=$! names+=(proxy)
wait_for server_is_up proxy
start_migrate --finish=detach "$(uri proxy)" "$(uri copy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
cat <&8 > "$tmp/read" &
pids[reader]=$! names+=(reader)
end_bg proxy
end_bg reader
