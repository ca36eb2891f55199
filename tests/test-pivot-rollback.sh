#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Two disks are cut over together.  The first is committed, the second cannot
# record its new owner: the first is taken back, both guests go on with their
# sources, and running it again works.  A read that is under way on the first
# destination just then is answered all the same, and so is a flush.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq qemu-io

size=$((4 * 1024 * 1024 + 512))
truncate -s $size "$tmp/source1" "$tmp/source2" "$tmp/destination1.img"
start_late destination1
start_nbdkit destination2 memory $size
pairs=("$(uri proxy1)" "$(uri destination1)"
       "$(uri proxy2)" "$(uri destination2)")

# both_are OWNER
both_are ()
{
  must_have_status "$(uri proxy1)" ".owner == \"$1\""
  must_have_status "$(uri proxy2)" ".owner == \"$1\""
}

# fail_commit FIRST LAST: let these steps of the second commit fail.  It
# is under way when this returns, the first one done, and a read is, too.
fail_commit ()
{
  rm -rf "$tmp/go" "$tmp/arm" "$tmp"/*.dir "$tmp"/*.record
  start_proxy proxy1 file "$tmp/source1"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy2.dir \
    CRASH_ARM=$tmp/arm CRASH_GO=$tmp/go CRASH_HOW=fail CRASH_AT=$1 \
    CRASH_TO=$2 start_proxy proxy2 file "$tmp/source2"
  start_guest guest "$(uri proxy1)" --uri "$(uri proxy2)" --initial any \
    --rate 1M --kinds wWzZtf
  start_migrate --wait --max-pause=5s "${pairs[@]}"
  wait_for has_status "$(uri proxy1)" '.progress.phase == "ready"'
  touch "$tmp/arm"
  "$nbdmigrate" finish --no-wait "$(uri proxy2)"
  wait_for has_status "$(uri proxy1)" '.owner == "destination"'
  cue destination1 'read late ms=2000'
  start_bg reader qemu-io -f raw -c 'read 0 64k' -c flush "$(uri proxy1)"
  wait_for has_status "$(uri proxy1)" '.relay.requests_in_flight > 0'
  touch "$tmp/go"
}

echo "-- the second disk cannot record its owner"
fail_commit 1 1
expect_status 1 wait_bg migrator
wait_bg reader || fail "a read was not answered"
! grep -i error "$tmp/reader.out" || fail "a read or a flush failed"
both_are source
guest_goes_on guest

echo "-- again"
cue destination1
must_migrate "${pairs[@]}"
both_are destination
guest_goes_on guest
stop_guest guest
end_bg proxy1
end_bg proxy2
verify_final guest "$(uri destination1)" --uri "$(uri destination2)"
