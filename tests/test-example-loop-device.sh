#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/loop-device/ does what it says.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
PATH=$PATH:/usr/sbin:/sbin
requires nbdkit fio losetup mkfs.ext4 e2fsck
requires_root
losetup --find > "$tmp/losetup.log" 2>&1 || skip "there are no loop devices"

TMPDIR=$tmp "$SRCDIR/examples/loop-device/move.sh" "$BUILD" |
  tee "$tmp/said"
[ "$(tail -n 1 "$tmp/said")" = "moved and intact" ]
! losetup --list --noheadings | grep -F "$tmp" || fail "a loop device is left"

echo "-- without fio"
mkdir "$tmp/bin"
for program in bash dirname nbdkit losetup mkfs.ext4 e2fsck; do
  ln -s "$(command -v $program)" "$tmp/bin/"
done
PATH=$tmp/bin expect_status 1 "$SRCDIR/examples/loop-device/move.sh" "$BUILD" \
  2> "$tmp/said"
grep -q 'fio is not there' "$tmp/said" || fail "$(cat "$tmp/said")"
