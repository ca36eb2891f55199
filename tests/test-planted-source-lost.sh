#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A filter that takes a flush by a new connection for one of what was copied before
# (R14) leaves the sides different when the server behind the source has lost
# something; the filter as it is does not.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/source-lost.sh
source "$SRCDIR/tests/source-lost.sh"
requires nbdkit jq nbdcopy
nbdkit nbd --dump-plugin > "$tmp/dump" 2>&1 || skip "nbdkit has no nbd plugin"
sound=$filter
with_bug=$BUILD/bug-vouch_for_earlier/nbdkit-migrate-filter.so
[ -e "$with_bug" ] || skip "vouch_for_earlier was not built: make planted-bugs"

for way in finish_it restart_proxy; do
  filter=$with_bug
  ! "$way" || fail "$way: nobody has noticed"
  filter=$sound
  "$way" || fail "$way: it is not right"
  echo "$way: caught"
done
