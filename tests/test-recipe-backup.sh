#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/recipes.md, "A backup each night": a detach, then only what has changed, and each
# time the copy is kept by qemu-img and by nbdcopy as it was at that pause.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-img nbdcopy
use_disk

start_proxy proxy memory 16M
fill "$(uri proxy)" 70
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 512K
truncate -s 16M "$on_disk/copy.raw"
start_nbdkit copy file "$on_disk/copy.raw"

echo "-- the first night"
must_migrate --finish=detach --destination-is-zero "$(uri proxy)" "$(uri copy)"
all=$(completed copied_bytes)
qemu-img convert -q -f raw -O qcow2 "$(uri copy)" "$on_disk/1.qcow2"
verify_cut guest "$(uri copy)" --initial "$pattern"

echo "-- the second night"
guest_goes_on guest 20
must_migrate --finish=detach --incremental "$(uri proxy)" "$(uri copy)"
changed=$(completed copied_bytes)
echo "$all bytes copied in the first night, $changed in the second"
((changed < all)) || fail "nothing was saved"
verify_cut guest "$(uri copy)" --initial "$pattern"
nbdcopy "$(uri copy)" "$on_disk/2.raw"
stop_guest guest

echo "-- what was kept"
cmp "$on_disk/copy.raw" "$on_disk/2.raw"
end_bg copy
! qemu-img compare -q -f qcow2 -F raw "$on_disk/1.qcow2" "$on_disk/copy.raw" ||
  fail "the guest has written nothing"
start_qemu_nbd kept -r -f qcow2 "$on_disk/1.qcow2"
[ "$(nbdinfo --size "$(uri kept)")" -eq $((16 * 1024 * 1024)) ]
