#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A disk whose end cannot be read, since its server takes whole blocks only and
# its size is none: that is found before anything is copied.  One that can be
# read all the same is copied.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((2 * 1024 * 1024 + 512))
start_nbdkit destination --filter=log memory 3M logfile="$tmp/requests"

for policy in error allow; do
  echo "-- $policy"
  start_proxy proxy --filter=blocksize-policy memory $size \
    blocksize-minimum=4096 blocksize-error-policy=$policy
  if [ $policy = error ]; then
    expect_status 1 migrate --finish=detach "$(uri proxy)" "$(uri destination)"
    cat "$tmp/migrate.log"
    grep -q 'its last 512 bytes cannot be read' "$tmp/migrate.log"
    ! grep -q ' Write \| Zero ' "$tmp/requests" || fail "something was written"
  else
    must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  fi
  end_bg proxy
  rm -rf "$tmp/proxy.dir"
done
