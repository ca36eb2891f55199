#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# After --finish=detach the tracking goes on, and --incremental to the same
# destination copies only what was written since, as counted on the wire.
# Without it, to another destination, or when nobody tracked what was written,
# everything is copied (R20).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq qemu-io

size=$((24 * 1024 * 1024 + 4321))
chunk=65536
S=$(uri proxy) D=$(uri destination)

truncate -s $size "$tmp/source" "$tmp/destination"
start_proxy proxy file "$tmp/source" migrate-chunk=$chunk

start_destination ()
{
  rm -f "$tmp/requests"
  start_nbdkit destination --filter=log file "$tmp/destination" \
    logfile="$tmp/requests"
}

guest ()
{
  qemu-io -f raw -d unmap "$@" "$S" > "$tmp/qemu-io.out"
}

# run ARGUMENT...: a detach; how much was sent is in $sent.
run ()
{
  local before

  before=$(wire_bytes "$tmp/requests")
  must_migrate --no-shared-memory --finish=detach "$@" "$S" "$D"
  sent=$(($(wire_bytes "$tmp/requests") - before - $(completed marked_bytes)))
  echo "resumed: $(completed resumed), $sent bytes sent"
  [ "$(completed copied_bytes)" -eq $sent ]
  same_content "$S" "$D"
}

# expect RESUMED BYTES: of the last run.
expect ()
{
  [ "$(completed resumed)" = "$1" ] || fail "resumed is not $1"
  [ "$sent" -eq "$2" ] || fail "$sent bytes were sent instead of $2"
}

# A full copy, partly of zeroes.
expect_full ()
{
  [ "$(completed resumed)" = false ] || fail "resumed is not false"
  [ "$(completed 'copied_bytes + .zeroed_bytes')" -eq $size ] ||
    fail "this was not a full copy"
}

start_destination
fill "$S" 100

echo "-- the first one is a full copy, whatever is asked for"
run --incremental
expect false $size
grep -q "$S has no detach to go on from (it was not detached before)" \
  "$tmp/migrate.log"

echo "-- nothing was written"
run --incremental
expect true 0

echo "-- some bytes, a zeroed chunk, a trim, and the disk's last byte"
guest -c "write -P 1 100 10" -c "write -P 2 $((3 * chunk - 1)) 2" \
  -c "write -z 4M $chunk" -c "discard 8M 128K" -c "write -P 3 $((size - 1)) 1"
run --incremental
expect true $((3 * chunk + size % chunk))
[ "$(completed zeroed_bytes)" -eq $((3 * chunk)) ]

echo "-- what is written while it runs is not lost"
start_guest guest "$S" --initial any --rate 2M
for i in 1 2 3; do
  start=$(wire_bytes "$tmp/requests")
  must_migrate --finish=detach --incremental "$S" "$D"
  guest_goes_on guest
  verify_cut guest "$D"
  sent=$(($(wire_bytes "$tmp/requests") - start))
  echo "run $i: $sent bytes sent"
  ((sent < size)) || fail "this was no increment"
  [ "$(completed resumed)" = true ]
done
stop_guest guest

echo "-- an increment that is killed goes on as one"
guest -c "write -P 4 0 16M"
start_migrate --finish=detach --incremental --rate=4M "$S" "$D"
has_sent ()
{
  (($(wire_bytes "$tmp/requests") > start + 1024 * 1024))
}
start=$(wire_bytes "$tmp/requests")
wait_for has_sent
crash_bg migrator
wait_for has_status "$S" '.session == false'
[ "$(status_of "$S" .last_end)" = interrupted ]
run
[ "$(completed resumed)" = true ]
((sent < size - 4 * 1024 * 1024)) || fail "this was no increment"

echo "-- without --incremental"
run
expect_full

echo "-- with --restart"
expect_status 2 migrate --incremental --restart "$S" "$D"
run --restart
expect_full

echo "-- another destination, and back"
# It does not say what is zero, so zeroes are written, too.
start_nbdkit another --filter=noextents memory $size
must_migrate --finish=detach --incremental "$S" "$(uri another)"
expect_full
# says TEXT: why nothing is gone on from.
says ()
{
  grep -qF "$1" "$tmp/migrate.log" || fail "not said: $1 in $(cat "$tmp/migrate.log")"
}
says "last detached to $D, not to $(uri another): full copy (a disk has one chain"
says "make a second copy from the first one"
run --incremental
expect_full
says "last detached to $(uri another), not to $D"

echo "-- a run to another one that was interrupted"
start_migrate --rate=64K "$S" "$(uri another)"
wait_for has_status "$S" '.progress.phase == "bulk"'
kill_bg migrator INT
expect_status 3 wait_bg migrator
run --incremental
expect_full
says "(another migration of it has begun since, or there was no detach; its latest"
says "went to $(uri another)): full copy (a disk has one chain"

echo "-- moved there, and back"
must_migrate "$S" "$(uri another)"
must_migrate "$S" local:
run --incremental
expect_full
says "(another migration has moved it since, or there"

echo "-- handed over, and taken back"
must_migrate --finish=handover "$S" "$(uri another)"
"$nbdmigrate" reopen "$S" owner=source
run --incremental
expect_full
says "(it was handed over and taken back by 'reopen' since, or"

echo "-- a run that was refused ends nothing"
start_nbdkit small memory $((size / 2))
expect_status 1 migrate --finish=detach "$S" "$(uri small)"
run --incremental
expect true 0

echo "-- after a cancellation nobody tracks"
"$nbdmigrate" cancel "$S"
guest -c "write -P 5 5M 512"
run --incremental
expect_full
says "has no detach to go on from ('cancel' has dropped"

echo "-- the destination server may have been started again meanwhile"
end_bg destination
start_destination
guest -c "write -P 6 6M 512"
run --incremental
expect true $chunk

# Of such a copy the few places that are looked at anywhere would hardly find it.
echo "-- two copies that take turns at one address: the other one is refused"
cp "$tmp/destination" "$tmp/other"
guest -c "write -P 7 7M 512" -c "write -P 7 10M 512"
run --incremental
expect true $((2 * chunk))
guest -c "write -P 8 9M 512"
end_bg destination
mv "$tmp/destination" "$tmp/first"
mv "$tmp/other" "$tmp/destination"
cp "$tmp/destination" "$tmp/before"
start_destination
expect_status 1 migrate --finish=detach --incremental "$S" "$D"
says "the chunk at offset $((7 * 1024 * 1024)) "
says "or is it one of several copies that take turns?"
cmp "$tmp/before" "$tmp/destination" || fail "it was written to"

echo "-- also when it is tried again; the first one is gone on with, and the other anew"
expect_status 1 migrate --finish=detach --incremental "$S" "$D"
cmp "$tmp/before" "$tmp/destination" || fail "it was written to"
end_bg destination
mv "$tmp/destination" "$tmp/other"
mv "$tmp/first" "$tmp/destination"
start_destination
run --incremental
[ "$(completed resumed)" = true ] || fail "$(cat "$tmp/migrate.log")"
end_bg destination
mv "$tmp/other" "$tmp/destination"
start_destination
run --restart
expect_full
