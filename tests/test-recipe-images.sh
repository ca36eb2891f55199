#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/recipes.md, "Images that exist already": a qcow2 image with a backing image, by
# way of qemu-nbd, moved to a raw image, and a raw image moved to a new qcow2, each
# under a guest's hands.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-img qemu-nbd
use_disk

# From what there is the guest knows nothing, so it checks what it has written only;
# the rest is compared.
echo "-- qcow2 with a backing image to raw"
head -c 8M /dev/urandom > "$on_disk/base.raw"
qemu-img create -q -f qcow2 -b base.raw -F raw "$on_disk/vm1.qcow2"
start_qemu_nbd image -e 16 --discard=unmap -f qcow2 "$on_disk/vm1.qcow2"
start_proxy proxy nbd socket="$tmp/image.sock" shared=true
truncate -s 8M "$on_disk/moved.raw"
start_nbdkit destination file "$on_disk/moved.raw"
start_guest guest "$(uri proxy)" --initial any "${kinds_for_qcow2[@]}"
must_migrate --verify "$(uri proxy)" "$(uri destination)"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri proxy)" --initial any
end_bg proxy
end_bg image
end_bg destination

echo "-- raw to qcow2"
start_proxy second file "$on_disk/moved.raw"
qemu-img create -q -f qcow2 "$on_disk/new.qcow2" 8M
start_qemu_nbd new -e 16 --discard=unmap -f qcow2 "$on_disk/new.qcow2"
must_migrate --verify "$(uri second)" "$(uri new)"
end_bg second
end_bg new
qemu-img compare -q -f raw -F qcow2 "$on_disk/moved.raw" "$on_disk/new.qcow2" ||
  fail "the qcow2 image holds something else"
qemu-img check -q "$on_disk/new.qcow2"
