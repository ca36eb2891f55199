#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Row 1 of the fault table: a destination that is larger than the disk is written to
# as far as the disk goes, its tail is left as it is, and that is said.  (A smaller one
# is refused: test-bad-input.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq cmp

size=$((1024 * 1024 + 100))
tail=$((64 * 1024 + 77))
truncate -s $size "$tmp/source.img"
start_proxy proxy file "$tmp/source.img"
fill "$(uri proxy)" 90 > "$tmp/fill.out"
head -c $((size + tail)) /dev/zero | tr '\0' '\253' > "$tmp/destination.img"
tail -c $tail "$tmp/destination.img" > "$tmp/tail"
start_nbdkit destination file "$tmp/destination.img"
for finish in detach pivot; do
  must_migrate --finish=$finish "$(uri proxy)" "$(uri destination)"
  grep -q "$(uri destination) is larger than the source: its last" \
    "$tmp/migrate.log" || fail "that it is larger is not said"
done
end_bg proxy
end_bg destination
cmp -n $size "$tmp/source.img" "$tmp/destination.img"
tail -c $tail "$tmp/destination.img" | cmp - "$tmp/tail"
