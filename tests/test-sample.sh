#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Before a cut-over a sample of what was copied is read over connections that did
# not write it, and before a run goes on a sample of what it will not copy: a
# destination that was emptied, replaced or written to is found.  What was looked
# at is told, and its seed repeats it.  A guest that writes meanwhile is no reason
# for an alarm.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io

size=$((16 * 1024 * 1024))
S=$(uri proxy) D=$(uri destination)

# An eighth of the disk is data.
start_all ()
{
  rm -rf "$tmp/proxy.dir"
  truncate -s 0 "$tmp/source" "$tmp/destination"
  truncate -s $size "$tmp/source" "$tmp/destination"
  start_proxy proxy file "$tmp/source"
  fill "$S" 12
  start_nbdkit destination file "$tmp/destination"
}

end_all ()
{
  end_bg proxy
  end_bg destination
}

empty_destination ()
{
  truncate -s 0 "$tmp/destination"
  truncate -s $size "$tmp/destination"
}

# found TEXT: by the migration in the background.
found ()
{
  expect_status 1 wait_bg migrator
  cat "$tmp/migrator.log"
  grep -q "$1" "$tmp/migrator.log"
  tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative'
}

for finish in pivot handover detach; do
  echo "-- emptied while it waits for the end, by $finish"
  start_all
  start_migrate --finish=$finish --wait "$S" "$D"
  wait_for is_ready
  empty_destination
  "$nbdmigrate" finish --no-wait "$S"
  found 'does not hold what it was given: over .* connection'
  must_have_status "$S" '.owner == "source"'
  echo "-- and the next run copies everything"
  must_migrate --finish=$finish "$S" "$D"
  [ "$(completed resumed)" = false ]
  cmp "$tmp/source" "$tmp/destination"
  over=$(event 'map(select(.event == "completed"))[0].disks[0].sample.over')
  case $finish in
  pivot) [ "$over" = proxy ] ;;
  *) [ "$over" = reader ] ;;
  esac
  end_all
done

echo "-- the seed is told, and repeats what is looked at"
start_all
must_migrate --finish=detach --sample-seed=7 "$S" "$D"
[ "$(completed sample_seed)" -eq 7 ]
[ "$(completed 'disks[0].sample.places')" -gt 32 ]
[ "$(completed 'disks[0].sample.bytes')" -gt $((32 * 4096)) ]
must_migrate --finish=detach "$S" "$D"
first=$(completed sample_seed)
must_migrate --finish=detach "$S" "$D"
[ "$(completed sample_seed)" -ne "$first" ]

echo "-- one that admits only one client"
end_bg destination
start_nbdkit destination --filter=limit file "$tmp/destination" limit=1
must_migrate --finish=detach "$S" "$D"
[ "$(completed 'disks[0].sample.over')" = writer ]
cmp "$tmp/source" "$tmp/destination"
end_all

echo "-- emptied between two runs"
start_all
must_migrate --finish=detach "$S" "$D"
qemu-io -f raw -c "write -P 1 3M 64k" "$S" > "$tmp/write.out"
empty_destination
expect_status 1 migrate --finish=detach --incremental "$S" "$D"
cat "$tmp/migrate.log"
grep -q 'does not hold what an earlier run copied.*--restart in place of --incremental' "$tmp/migrate.log"
[ "$(stat -c %b "$tmp/destination")" -eq 0 ] || fail "something was written"
echo "-- and again, without that option"
expect_status 1 migrate --finish=detach "$S" "$D"
grep -q 'does not hold what an earlier run copied.*--restart,' "$tmp/migrate.log"
must_migrate --finish=detach --restart "$S" "$D"
cmp "$tmp/source" "$tmp/destination"

echo "-- replaced during an interruption"
qemu-io -f raw -c "write -P 1 5M 64k" "$S" > "$tmp/write.out"
start_migrate --finish=detach --wait --restart "$S" "$D"
wait_for is_ready
kill_bg migrator INT
expect_status 3 wait_bg migrator
end_bg destination
cp "$tmp/destination" "$tmp/kept"
empty_destination
start_nbdkit destination file "$tmp/destination"
expect_status 1 migrate --finish=detach "$S" "$D"
grep -q 'does not hold what an earlier run copied' "$tmp/migrate.log"
echo "-- the right one is there again: it goes on"
end_bg destination
mv "$tmp/kept" "$tmp/destination"
start_nbdkit destination file "$tmp/destination"
must_migrate --finish=detach "$S" "$D"
[ "$(completed resumed)" = true ]
[ "$(completed copied_bytes)" -lt $((size / 8)) ]
cmp "$tmp/source" "$tmp/destination"

echo "-- a guest that writes all the time is no reason for an alarm"
start_guest guest "$S" --initial any --rate 8M
for _ in 1 2 3 4; do
  must_migrate --finish=detach --max-pause=5s --incremental "$S" "$D"
done
stop_guest guest
