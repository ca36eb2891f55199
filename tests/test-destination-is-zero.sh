#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Holes are not copied as data, and with --destination-is-zero not at all.  But
# that promise covers no chunk that an earlier pass or run may have written to:
# copy, kill, trim, run again (R18); also if the destination is called by another
# name then, was not the last one, or nobody remembers it.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdcopy qemu-io

size=$((16 * 1024 * 1024))

# requests KIND: how many the destination saw, but for that one (of 4 KiB) that puts
# back what was there before a mark.
requests ()
{
  grep -aE " $1 .* offset=" "$tmp/destination.requests" |
    grep -avc 'count=0x1000 ' || :
}

# start_destination NAME [FILTER]: a new name for a new one, because the proxy
# remembers where it was copied to.
start_destination ()
{
  name=$1
  rm -f "$tmp/destination.requests"
  start_nbdkit "$name" --filter=log "${2:---filter=nofilter}" memory $size \
    logfile="$tmp/destination.requests"
}

truncate -s $size "$tmp/source"
start_proxy proxy file "$tmp/source"
fill "$(uri proxy)" 30

echo "-- a destination full of other things: holes are zeroed, without data"
start_destination full
"$referee" pattern --uri "$(uri "$name")" --seed 1 --density 100
: > "$tmp/destination.requests"
must_migrate --finish=detach "$(uri proxy)" "$(uri "$name")"
same_content "$(uri proxy)" "$(uri "$name")"
[ "$(completed zeroed_bytes)" -gt 0 ]
[ "$(($(completed copied_bytes) + $(completed zeroed_bytes)))" -eq $size ]
[ "$(requests Zero)" -gt 0 ]
end_bg "$name"

echo "-- a destination of zeroes"
start_destination zeroes
must_migrate --finish=detach --destination-is-zero "$(uri proxy)" \
  "$(uri "$name")"
same_content "$(uri proxy)" "$(uri "$name")"
[ "$(completed skipped_bytes)" -gt 0 ]
[ "$(($(completed copied_bytes) + $(completed skipped_bytes)))" -eq $size ]
[ "$(requests Zero)" -eq 0 ]
end_bg "$name"

echo "-- copied, killed, trimmed, run again"
start_destination killed
start_migrate --finish=detach --destination-is-zero --rate=4M "$(uri proxy)" \
  "$(uri "$name")"
some_are_copied ()
{
  [ "$(requests Write)" -gt 2 ]
}
wait_for some_are_copied
crash_bg migrator
qemu-io -f raw -c "write -z -u 0 $size" "$(uri proxy)" > "$tmp/trim.out"
must_migrate --finish=detach --destination-is-zero "$(uri proxy)" \
  "$(uri "$name")"
same_content "$(uri proxy)" "$(uri "$name")"
[ "$(requests Zero)" -gt 0 ]
end_bg "$name"

# copy_to URI
copy_to ()
{
  must_migrate --finish=detach --destination-is-zero "$(uri proxy)" "$1"
}

# start_again: the proxy, with its memory of destinations.
start_again ()
{
  end_bg proxy
  start_proxy proxy file "$tmp/source"
}

# copied NAME: to a new destination of zeroes, by a proxy that knows nothing.
copied ()
{
  end_bg proxy
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy file "$tmp/source"
  fill "$(uri proxy)" 50
  start_destination "$1"
  copy_to "$(uri "$1")"
  same_content "$(uri proxy)" "$(uri "$1")"
}

# zeroes_arrive URI: what is zero at the source now, and was not.
zeroes_arrive ()
{
  qemu-io -f raw -c "write -z -u 0 $size" "$(uri proxy)" > "$tmp/trim.out"
  copy_to "$1"
  same_content "$(uri proxy)" "$1"
  end_bg "$name"
}

# refused URI OFFSET: nothing is written there, and the offset is told.
refused ()
{
  : > "$tmp/destination.requests"
  expect_status 1 migrate --finish=detach --destination-is-zero "$(uri proxy)" \
    "$1"
  cat "$tmp/migrate.log"
  grep -q "is not zero, as .* at offset $2" "$tmp/migrate.log"
  [ "$(requests Write)" -eq 0 ]
  [ "$(requests Zero)" -eq 0 ]
}

echo "-- a destination that is not zero at all"
qemu-io -f raw -c "write -P 1 0 8M" "$(uri proxy)" > "$tmp/write.out"
start_destination noise --filter=noextents
"$referee" pattern --uri "$(uri noise)" --seed 1 --density 100
refused "$(uri noise)" '[0-9]*'
end_bg noise

echo "-- and one that holds a little, and says where"
start_destination little
qemu-io -f raw -c "write -P 7 12M 16k" "$(uri little)" > "$tmp/write.out"
refused "$(uri little)" '125[0-9]*'
must_migrate --finish=detach "$(uri proxy)" "$(uri little)"
same_content "$(uri proxy)" "$(uri little)"
end_bg little

# hide NAME: one that does not say where it holds a little, at a place that this seed
# does not look at.
hide ()
{
  start_destination "$1" --filter=noextents
  qemu-io -f raw -c "write -P 7 12M 4k" "$(uri "$1")" > "$tmp/write.out"
}
hidden=(--destination-is-zero --sample-seed=1)

echo "-- copied, left out, interrupted, and the option is withdrawn"
# What was left out on a wrong promise must not count.
hide wrong
start_migrate --finish=detach "${hidden[@]}" --wait "$(uri proxy)" \
  "$(uri wrong)"
wait_for has_status "$(uri proxy)" '.progress.phase == "ready"'
crash_bg migrator
must_migrate --finish=detach "$(uri proxy)" "$(uri wrong)"
[ "$(completed resumed)" = false ]
same_content "$(uri proxy)" "$(uri wrong)"

echo "-- and it is found out by --verify"
hide bad
expect_status 1 migrate --finish=detach "${hidden[@]}" --verify "$(uri proxy)" \
  "$(uri bad)"
grep -q 'returns other bytes' "$tmp/migrate.log"
must_migrate --finish=detach "$(uri proxy)" "$(uri bad)"
same_content "$(uri proxy)" "$(uri bad)"
end_bg wrong
end_bg bad

echo "-- copied elsewhere meanwhile"
copied first
start_nbdkit second memory $size
copy_to "$(uri second)"
[ "$(completed skipped_bytes)" -gt 0 ]
zeroes_arrive "$(uri first)"

echo "-- and the proxy was started again"
copied third
qemu-io -f raw -c "write -z -u 0 $size" "$(uri second)" > "$tmp/trim.out"
copy_to "$(uri second)"
start_again
zeroes_arrive "$(uri third)"
end_bg second

echo "-- the path to its socket is another"
copied fourth
mkdir "$tmp/folder"
ln -s "$tmp/fourth.sock" "$tmp/link.sock"
zeroes_arrive "nbd+unix:///?socket=$tmp/folder/../link.sock"

echo "-- another export of it, the same disk"
copied fifth
zeroes_arrive "nbd+unix:///export?socket=$tmp/fifth.sock"

# settled: the proxy is started again without its record, and told that the
# source owns the disk.
settled ()
{
  end_bg proxy
  : > "$tmp/proxy.dir/state"
  start_proxy proxy file "$tmp/source"
  nbdinfo --size "$(uri proxy)" # opens the export
  "$nbdmigrate" reopen "$(uri proxy)" owner=source
}

echo "-- the record of it was lost"
copied sixth
settled
zeroes_arrive "$(uri sixth)"

echo "-- and the proxy was started again after that"
copied seventh
settled
start_again
zeroes_arrive "$(uri seventh)"

echo "-- a new destination is known to be new after the proxy was started again"
copied eighth
start_again
start_destination ninth
copy_to "$(uri ninth)"
! grep 'not relied upon' "$tmp/migrate.log" || fail "it is a new one"
same_content "$(uri proxy)" "$(uri ninth)"
[ "$(completed skipped_bytes)" -gt 0 ]
[ "$(requests Zero)" -eq 0 ]
end_bg ninth
name=eighth
zeroes_arrive "$(uri eighth)"

echo "-- but not if it cannot be told what came before"
sed -i '$d' "$tmp/proxy.dir/history"
start_again
start_destination tenth
copy_to "$(uri tenth)"
grep -q 'destination-is-zero is not relied upon' "$tmp/migrate.log"
same_content "$(uri proxy)" "$(uri tenth)"
[ "$(completed skipped_bytes)" -eq 0 ]
[ "$(requests Zero)" -gt 0 ]
