#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two disks that were pivoted move on together.  The first is committed, the
# second cannot record its new owner: the first is taken back to the server that
# it was at, and both guests go on there.  What is flushed while the commit can
# be taken back is flushed on both servers (R13).  Then it works.
#
# timeout: 60

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io

size=$((4 * 1024 * 1024))
for name in a1 b1; do
  start_nbdkit $name --filter=log memory $size logfile="$tmp/$name.requests"
done
for name in a2 b2; do
  start_nbdkit $name memory $size
done
start_proxy proxy1 memory $size
LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy2.dir \
  CRASH_ARM=$tmp/arm CRASH_GO=$tmp/go CRASH_HOW=fail CRASH_AT=1 CRASH_TO=1 \
  start_proxy proxy2 memory $size

# places NAME NAME: where the disks are.
places ()
{
  must_have_status "$(uri proxy1)" ".place == \"$(uri "$1")\""
  must_have_status "$(uri proxy2)" ".place == \"$(uri "$2")\""
}

# flushes NAME
flushes ()
{
  grep -c ' Flush id=' "$tmp/$1.requests" || :
}

start_guest guest "$(uri proxy1)" --uri "$(uri proxy2)" --rate 1M \
  --kinds wWzZt
must_migrate "$(uri proxy1)" "$(uri a1)" "$(uri proxy2)" "$(uri a2)"
guest_goes_on guest
places a1 a2

echo "-- the second disk cannot record its owner"
start_migrate --wait --max-pause=5s "$(uri proxy1)" "$(uri b1)" \
  "$(uri proxy2)" "$(uri b2)"
wait_for has_status "$(uri proxy1)" '.progress.phase == "ready"'
touch "$tmp/arm"
"$nbdmigrate" finish --no-wait "$(uri proxy2)"
wait_for has_status "$(uri proxy1)" '.owner == "destination"'
before="$(flushes a1) $(flushes b1)"
qemu-io -f raw -c 'read 0 64k' -c flush "$(uri proxy1)" > "$tmp/qemu-io.out"
after="$(flushes a1) $(flushes b1)"
read -r a1 b1 <<< "$before"
read -r a2 b2 <<< "$after"
((a2 > a1 && b2 > b1)) || fail "not flushed on both: $before, then $after"
touch "$tmp/go"
expect_status 1 wait_bg migrator
places a1 a2
guest_goes_on guest
must_have_status "$(uri proxy1)" '.relay.losses == 0'

echo "-- again"
must_migrate "$(uri proxy1)" "$(uri b1)" "$(uri proxy2)" "$(uri b2)"
places b1 b2
end_bg a1
end_bg a2
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri b1)" --uri "$(uri b2)"
