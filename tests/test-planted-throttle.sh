#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A throttle with a rule broken on purpose is caught by test-throttle, and by
# what it says.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io

# is_caught BUG PART SAYS
is_caught ()
{
  local filter=$BUILD/bug-$1/nbdkit-migrate-filter.so status=0

  [ -e "$filter" ] || skip "$1 was not built: make planted-bugs"
  FILTER=$filter "$SRCDIR/tests/test-throttle.sh" "$2" > "$tmp/$1.out" 2>&1 ||
    status=$?
  if [ $status -ne 1 ] || ! grep -q "^FAILED: $3" "$tmp/$1.out"; then
    fail "$1 was not caught ($status): $(cat "$tmp/$1.out")"
  fi
  echo "$1: caught"
}

is_caught throttle_in_the_list gate 'delayed in the list'
is_caught throttle_outlives_session dies 'the limit outlives its session'
