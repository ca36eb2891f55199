#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 300
#
# A disk of 8 TiB, almost empty, with data scattered over all of it and a guest
# writing: it is copied right, and the filter takes less than 64 MiB of memory
# and the migrator less than 96 MiB.  How long it takes is for
# tests/bench-scale.sh.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq qemu-img

filter_limit=$((64 * 1024)) migrator_limit=$((96 * 1024)) # KiB

truncate -s 8T "$tmp/source" "$tmp/destination" 2> "$tmp/truncate.log" ||
  skip "the file system allows no files of 8 TiB"
"$BUILD/tests/scatter" "$tmp/source" 4096 16384 "$seed"
start_proxy proxy file "$tmp/source" migrate-max-gate=60s
start_nbdkit destination file "$tmp/destination"
S=$(uri proxy) D=$(uri destination)

# The most memory that a process has had at any time, in KiB.
peak_of ()
{
  sed -n 's/^VmHWM:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$1/status"
}

is_ready ()
{
  has_event completed ||
    has_status "$S" '.session and .progress.phase == "ready"'
}

# check_peak WHAT KIB LIMIT
check_peak ()
{
  echo "$1: $2 KiB"
  [ -n "${SANITIZER:-}" ] || (($2 < $3)) ||
    fail "$1 takes $2 KiB, more than $3"
}

# Whatever nbdkit and the plugin need is not the filter's.
start_guest guest "$S" --initial any --rate 1M --cells 512
before=$(peak_of "${pids[proxy]}")

start_migrate --finish=detach --wait --max-pause=30s "$S" "$D"
WAIT_SECONDS=240 wait_for is_ready
guest_goes_on guest
check_peak "the migrator" "$(peak_of "${pids[migrator]}")" $migrator_limit
"$nbdmigrate" finish --no-wait "$S"
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
guest_goes_on guest
stop_guest guest
check_peak "the filter" $(($(peak_of "${pids[proxy]}") - before)) $filter_limit

echo "-- what the guest wrote since, and all there is"
must_migrate --finish=detach --incremental "$S" "$D"
[ "$(completed resumed)" = true ]
end_bg proxy
end_bg destination
qemu-img compare -q -f raw -F raw "$tmp/source" "$tmp/destination"
echo "$(allocated_bytes "$tmp/source") bytes allocated," \
     "$(allocated_bytes "$tmp/destination") bytes of the copy"
