#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# --check tells what a run would copy, and changes nothing: neither the destination,
# nor what the proxy has recorded, nor what a run would go on from.  What would be
# refused is refused.  And a second run, while the first one waits for its
# destination, says so.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

MiB=$((1024 * 1024))
size=$((16 * MiB))
truncate -s $size "$tmp/source"
dd if=/dev/urandom of="$tmp/source" bs=1M count=4 conv=notrunc status=none
head -c $size /dev/urandom > "$tmp/destination"
sync "$tmp/source" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
S=$(uri proxy) D=$(uri destination)

# What must be as it was.
everything ()
{
  sha256sum "$tmp/source" "$tmp/destination"
  status '[.session, .tracking, .last_end, .destination, .epoch, .owner,
           .dirty_bytes, .remaining_bytes, .quarantined_bytes] | tostring'
  find "$tmp/proxy.dir" -printf '%P %s %T@\n' | sort
}

# check ARGUMENT...: passes, and nothing has changed.
check ()
{
  everything > "$tmp/before"
  must_migrate --check "$@"
  cat "$tmp/migrate.log"
  everything > "$tmp/after"
  diff "$tmp/before" "$tmp/after" || fail "something was changed"
  grep -q 'all checks have passed; nothing was changed' "$tmp/migrate.log"
  [ "$(event 'map(.event) | join(" ")')" = checked ] || fail "other events"
}

# checked EXPRESSION: of the event, must be true.
checked ()
{
  [ "$(event ".[0] | $1")" = true ] || fail "not so: $1 in $(event '.[0]')"
}

# not_checked TEXT ARGUMENT...
not_checked ()
{
  local text=$1

  shift
  everything > "$tmp/before"
  expect_status 1 migrate --check "$@"
  cat "$tmp/migrate.log"
  grep -qF -- "$text" "$tmp/migrate.log" || fail "this is not said: $text"
  everything > "$tmp/after"
  diff "$tmp/before" "$tmp/after" || fail "something was changed"
}

echo "-- all of it"
check "$S" "$D"
checked ".copy_bytes == $((4 * MiB)) and .disks[0].disk_bytes == $size and
         .disks[0].goes_on == null and .bytes_per_second > 0 and
         .guest_bytes_per_second == 0 and .expected_ms > 0"
check --rate=1M "$S" "$D"
checked ".bytes_per_second == $MiB and .expected_ms == 4000"
"$nbdmigrate" --check --quiet "$S" "$D" > "$tmp/quiet" 2>&1
[ ! -s "$tmp/quiet" ] || fail "--quiet says: $(cat "$tmp/quiet")"

echo "-- what would be refused"
start_nbdkit small memory $((size - 1))
not_checked 'is too small' "$S" "$(uri small)"
start_nbdkit readonly -r memory $size
not_checked 'read-only' "$S" "$(uri readonly)"
not_checked 'migrate-max-gate' --max-pause=1h "$S" "$D"
not_checked 'No such file' "$S" "nbd+unix:///?socket=$tmp/nowhere.sock"

echo "-- while another one runs, and waits for its destination"
start_migrate --rate=64K "$S" "$D"
wait_for has_status "$S" '.progress.phase == "bulk"'
crash_bg destination
wait_for has_event lost
rm "$tmp/events"
for option in --check --rate=0; do
  expect_status 1 migrate $option "$S" "$D"
  cat "$tmp/migrate.log"
  grep -q 'another migration of this disk is running' "$tmp/migrate.log"
done
kill_bg migrator TERM
expect_status 3 wait_bg migrator
start_nbdkit destination file "$tmp/destination"

echo "-- the rest of a run"
check "$S" "$D"
checked '.disks[0].goes_on == "interrupted"'
left=$(status .remaining_bytes)
checked ".copy_bytes == $left"
must_migrate --finish=detach "$S" "$D"
[ "$(event 'map(select(.event == "started")) | .[0].disks[0].resumed')" = true ]

echo "-- of what a run with another promise has copied nothing is left for this one"
truncate -s 0 "$tmp/empty"
truncate -s $size "$tmp/empty"
start_nbdkit empty file "$tmp/empty"
start_migrate --destination-is-zero --rate=64K "$S" "$(uri empty)"
wait_for has_status "$S" '.progress.copied_bytes > 0'
kill_bg migrator TERM
expect_status 3 wait_bg migrator
rm "$tmp/events"
check --destination-is-zero "$S" "$(uri empty)"
checked '.disks[0].goes_on == "interrupted"'
check "$S" "$(uri empty)"
checked '.disks[0].goes_on == null'
grep -q 'of which about ' "$tmp/migrate.log"
must_migrate --finish=detach "$S" "$(uri empty)"
[ "$(event 'map(select(.event == "started")) | .[0].disks[0].resumed')" = false ]
must_migrate --finish=detach "$S" "$D"

echo "-- since a detach"
start_guest guest "$S" --kinds w
stop_guest guest
left=$(status .remaining_bytes)
[ "$left" -gt 0 ]
check --incremental "$S" "$D"
checked ".disks[0].goes_on == \"detached\" and .copy_bytes == $left"
check "$S" "$D"
checked '.disks[0].goes_on == null'

echo "-- to where it was not detached"
start_nbdkit other memory $size
check --incremental "$S" "$(uri other)"
checked '.disks[0].goes_on == null'
grep -q 'are to be copied: there is no detach to it to go on from' "$tmp/migrate.log"
