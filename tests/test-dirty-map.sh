#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# A proxy that is killed, or ends, and is started again: the migration goes on with
# what may have changed, whatever it was doing, and so does a copy after a detach
# (R14, R20, fault 12).  A guest that writes before that is not missed.  What is
# sent the second time is about what was written, not the disk.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/dirty-map.sh
source "$SRCDIR/tests/dirty-map.sh"
requires nbdkit jq qemu-io nbdcopy

power= # it is not what fails here

prepare ()
{
  new_disks $((16 * 1024 * 1024 + 512))
  start_kept
  start_destination
  fill "$S" 100 > "$tmp/fill.out"
}

# As when its machine is reset, but for the power.
crash_proxy ()
{
  crash_bg proxy
  [ -z "${pids[migrator]:-}" ] || wait_bg migrator || :
}

is_same ()
{
  cmp "$tmp/disks/source" "$tmp/destination" || fail "the two sides differ"
}

# sent_at_most BYTES
sent_at_most ()
{
  ((sent <= $1)) || fail "$sent bytes were sent, of $1 that may have changed"
}

stop ()
{
  end_bg proxy
  end_bg destination
}

# Until a checkpoint has come, and something is left.
copy_partly ()
{
  hurried 5 start_migrate --finish=detach --rate=10M "$@" \
    "$S" "$D"
  wait_for has_status "$S" .session
  wait_for is_partly_marked
}

is_partly_marked ()
{
  has_status "$S" ".session and .dirty_map.marked_bytes < $((size * 7 / 8))"
}

echo "-- nothing is there before a migration begins"
prepare
write_at 0 4k
must_have_status "$S" '.dirty_map.state == "none"'
[ ! -e "$dir/dirty-map" ] || fail "there is a dirty map"

echo "-- killed in the bulk pass"
stop
new_disks $((96 * 1024 * 1024 + 512))
start_kept
start_destination
fill "$S" 100 > "$tmp/fill.out"
copy_partly
crash_proxy
start_kept
nbdinfo --size "$S" > "$tmp/size"
must_have_status "$S" '.tracking and .dirty_bytes > 0 and
                       .quarantined_bytes == 0 and
                       .dirty_map.marked_bytes == .dirty_bytes'
write_at 1M 4k
before=$(marked)
echo "$before of $size bytes are marked"
((before < size)) || fail "everything is marked"
go_on --finish=detach
is_same
sent_at_most "$before"

echo "-- a promise that the next run does not make"
copy_partly --restart --destination-is-zero
crash_proxy
start_kept
must_migrate --finish=detach "$S" "$D"
[ "$(completed resumed)" = false ] ||
  fail "what was left out because of the promise counts"
is_same
stop

echo "-- killed when it was ready"
prepare
start_migrate --wait "$S" "$D"
wait_for is_ready
write_at 2M 64k
kill_bg migrator INT
expect_status 3 wait_bg migrator
wait_for is_marked_at_most $span
crash_proxy
start_kept
write_at 5M 4k
go_on --finish=detach
is_same
sent_at_most $((2 * span))
((sent > 0)) || fail "nothing was sent"

echo "-- killed after a detach"
wait_for is_marked_at_most 0
write_at 3M 4k
crash_proxy
start_kept
write_at 9M 4k
go_on --finish=detach --incremental
is_same
sent_at_most $((2 * span))

echo "-- without --incremental it is a full copy"
crash_proxy
start_kept
must_migrate --finish=detach "$S" "$D"
[ "$(completed resumed)" = false ] || fail "it went on by itself"
[ "$(completed 'copied_bytes + .zeroed_bytes')" -eq "$size" ]
is_same

echo "-- stopped: only what was written, and no doubt about it"
wait_for is_marked_at_most 0
write_at 3M 4k
write_at 7M 4k
end_bg proxy
start_kept
must_have_status "$S" '.tracking and .quarantined_bytes == 0'
[ "$(marked)" -eq $((2 * chunk)) ] || fail "$(marked) bytes are marked"
go_on --finish=detach --incremental
is_same
[ "$sent" -eq $((2 * chunk)) ] || fail "$sent bytes were sent"

echo "-- stopped and killed, again and again"
wait_for is_marked_at_most 0
for i in 1 2 3; do
  write_at ${i}M 4k
  end_bg proxy
  start_kept
  write_at $((i + 8))M 4k
  crash_proxy
  start_kept
done
go_on --finish=detach --incremental
is_same
sent_at_most $((6 * span))

echo "-- a promise that the next run does not make"
echo "-- another destination"
crash_proxy
start_kept
truncate -s "$size" "$tmp/disks/other"
start_nbdkit other file "$tmp/disks/other"
must_migrate --finish=detach --incremental "$S" "$(uri other)"
[ "$(completed resumed)" = false ]
cmp "$tmp/disks/source" "$tmp/disks/other"
end_bg other

echo "-- cancelled"
start_migrate --wait "$S" "$D"
wait_for is_ready
"$nbdmigrate" cancel "$S" 2> "$tmp/cancel.log"
wait_bg migrator || :
wait_for has_status "$S" '.tracking == false and .dirty_map.state == "none"'
crash_proxy
start_kept
nbdinfo --size "$S" > "$tmp/size"
must_have_status "$S" '.tracking == false and .dirty_map.state == "none"'

echo "-- after a pivot"
must_migrate "$S" "$D"
crash_proxy
start_kept
nbdinfo --size "$S" > "$tmp/size"
must_have_status "$S" '.owner == "destination" and .tracking == false and
                       .dirty_map.state == "none"'
stop

echo "-- a disk that was grown meanwhile"
prepare
copy_all
crash_proxy
truncate -s +64K "$tmp/disks/source"
truncate -s +64K "$tmp/destination"
start_kept
write_at "$size" 4k
must_have_status "$S" '.dirty_map.state == "none"'
grep -q 'the disk had another size' "$tmp/proxy.log"
must_migrate --finish=detach "$S" "$D"
[ "$(completed resumed)" = false ]
is_same
stop

echo "-- two disks of one proxy, each with a map of its own"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
new_disks $((4 * 1024 * 1024))
cp "$tmp/disks/source" "$tmp/disks/other"
disks=(source other)
pairs=()
for name in "${disks[@]}"; do
  truncate -s "$size" "$tmp/to-$name"
  start_nbdkit "to-$name" file "$tmp/to-$name"
  pairs+=("$(export_uri proxy "$name")" "$(uri "to-$name")")
done

start_both ()
{
  touch "$tmp/hurry"
  hurried 5 start_nbdkit proxy --filter="$filter" file dir="$tmp/disks" \
    migrate-dir="$dir" migrate-chunk=$chunk migrate-named-exports=true
}

# Written and flushed: the filter cannot flush such a disk (source-flush.c).
write_both ()
{
  local name

  for name in "${disks[@]}"; do
    qemu-io -f raw -c "write -P 7 $1 4k" -c flush \
      "$(export_uri proxy "$name")" > "$tmp/qemu-io.out"
  done
}

both_marked_at_most ()
{
  local name

  write_both 0
  for name in "${disks[@]}"; do
    has_status "$(export_uri proxy "$name")" ".dirty_map.marked_bytes <= $1" ||
      return
  done
}

start_both
fill_all 100 "${pairs[0]}" "${pairs[2]}"
start_migrate --wait "${pairs[@]}"
wait_for has_status "${pairs[0]}" '.progress.phase == "ready"'
kill_bg migrator INT
expect_status 3 wait_bg migrator
wait_for both_marked_at_most "$span"
crash_bg proxy
start_both
write_both 2M
must_migrate --finish=detach "${pairs[@]}"
[ "$(completed resumed)" = true ] || fail "it did not go on"
sent=$(completed 'copied_bytes + .zeroed_bytes')
echo "gone on with, $sent bytes sent"
sent_at_most $((4 * span))
for name in "${disks[@]}"; do
  cmp "$tmp/disks/$name" "$tmp/to-$name"
  [ -e "$dir/dirty-map.$name" ] || fail "$name has no map of its own"
done
