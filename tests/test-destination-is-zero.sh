#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Holes are not copied as data, and with --destination-is-zero not at all.  But
# that promise covers no chunk that an earlier pass or run may have written to:
# copy, kill, trim, run again (R18).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdcopy qemu-io

size=$((16 * 1024 * 1024))

# requests KIND: how many the destination saw.
requests ()
{
  grep -cE " $1 .* offset=" "$tmp/destination.requests" || :
}

# start_destination NAME: a new name, because the filter remembers where it
# was copied to.
start_destination ()
{
  name=$1
  rm -f "$tmp/destination.requests"
  start_nbdkit "$name" --filter=log memory $size \
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
