#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A disk is migrated while a guest writes to it, and the guest stays on the
# source: the destination is the disk as it was at one instant of the pause,
# and the guest's own disk is unharmed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

truncate -s $((64 * 1024 * 1024 + 4321)) "$tmp/source" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
fill "$(uri proxy)" 60
start_guest guest "$(uri proxy)" --initial "$pattern" --depth 8

for i in 1 2 3; do
  must_migrate --no-shared-memory --finish=detach "$(uri proxy)" \
    "$(uri destination)"
  guest_goes_on guest
  verify_cut guest "$(uri destination)"
  echo "run $i: passes $(completed passes), pause $(completed pause_ms) ms," \
       "copied $(completed copied_bytes) bytes"
  [ "$(completed finish)" = detach ]
done

stop_guest guest
verify_final guest "$(uri proxy)"
