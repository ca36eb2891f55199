#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 180
#
# Guests' writes on both sides, with what can come in between (R12, R17): the
# filter keeps both sides equal, and one with a rule broken on purpose does not.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/mirror.sh
source "$SRCDIR/tests/mirror.sh"
requires nbdkit nbdcopy jq qemu-io nbdinfo

for bug in "${mirror_bugs[@]}"; do
  $bug
  sides_are_equal || fail "$bug: the sides differ"
done
go destination late
stop_mirror

# is_caught BUG: by the same, with that filter.
is_caught ()
{
  local verdict=1

  "$1"
  sides_are_equal || verdict=0
  go destination late
  stop_mirror
  return $verdict
}

for bug in "${mirror_bugs[@]}"; do
  filter=$BUILD/bug-$bug/nbdkit-migrate-filter.so
  [ -e "$filter" ] || skip "$bug was not built: make planted-bugs"
  is_caught "$bug" || fail "$bug was not caught"
  echo "$bug: caught"
done
