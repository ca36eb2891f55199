#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Several disks, and destinations that admit few connections and let the next
# one wait: it takes a while each to find that out, and no session must have
# begun by then, which would end for silence.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq qemu-nbd nbdcopy

size=$((4 * 1024 * 1024))
pairs=()
for i in 1 2; do
  truncate -s $size "$tmp/destination$i"
  start_proxy proxy$i memory $size
  start_qemu_nbd destination$i -e 4 -f raw "$tmp/destination$i"
  pairs+=("$(uri proxy$i)" "$(uri destination$i)")
done
fill_all 50 "${pairs[0]}" "${pairs[2]}"

must_migrate --finish=detach "${pairs[@]}"
sed 's/^/   /' "$tmp/migrate.log"
for i in 1 2; do
  grep -qF "the destination $(uri destination$i) admits fewer than" \
    "$tmp/migrate.log" || fail "it does not say so"
  same_content "$(uri proxy$i)" "$(uri destination$i)"
done
