#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A filter that takes a flush by a new connection for one of what was copied before,
# or that keeps what was copied when it exchanges the context that all share (R14),
# leaves the sides different when the server behind the source has lost something;
# the filter as it is does not.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/source-lost.sh
source "$SRCDIR/tests/source-lost.sh"
requires nbdkit jq nbdcopy
nbdkit nbd --dump-plugin > "$tmp/dump" 2>&1 || skip "nbdkit has no nbd plugin"
sound=$filter

# caught BUG WAY
caught ()
{
  local with_bug=$BUILD/bug-$1/nbdkit-migrate-filter.so

  [ -e "$with_bug" ] || skip "$1 was not built: make planted-bugs"
  filter=$with_bug
  ! "$2" || fail "$2: nobody has noticed"
  filter=$sound
  "$2" || fail "$2: it is not right"
  echo "$2: $1 is caught"
}

caught vouch_for_earlier finish_it
caught vouch_for_earlier restart_proxy
caught exchange_keeps_clean share_one
