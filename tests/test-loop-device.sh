#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Loop devices at both ends: what the kernel calls a disk is one for us.
#
# nbdkit's file plugin refuses to zero or trim parts of a device's sector, so
# the guest keeps to sectors here.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq losetup qemu-nbd
requires_root

use_disk

# loop NAME SIZE: its path in $loop.
loop ()
{
  truncate -s "$2" "$on_disk/$1.img"
  loop=$(losetup --find --show "$on_disk/$1.img" 2> "$tmp/losetup.log") ||
    skip "no loop device can be had: $(cat "$tmp/losetup.log")"
  at_end "losetup --detach $loop"
}

size=$((16 * 1024 * 1024 + 512))
loop source $size
start_proxy proxy file "$loop"
loop destination $size
start_nbdkit destination file "$loop"
fill "$(uri proxy)" 50

echo "-- detach"
start_guest guest "$(uri proxy)" --initial "$pattern" --align 512
must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
verify_cut guest "$(uri destination)"
stop_guest guest

echo "-- handover, through qemu-nbd"
end_bg destination
start_qemu_nbd destination -e 16 -f raw --discard=unmap "$loop"
rm "$tmp/guest.record"
start_guest guest "$(uri proxy)" --initial any --expect-shutdown \
  --align 512
must_migrate --finish=handover "$(uri proxy)" "$(uri destination)"
wait_bg guest || fail "the guest ended with exit status $?"
verify_final guest "$(uri destination)"
