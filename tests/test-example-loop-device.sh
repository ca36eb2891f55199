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
