#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A disk whose end cannot be read, since its server takes whole blocks only and
# its size is none: that is found before anything is copied.  One that can be
# read all the same is copied.
#
# nbdkit's blocksize-policy was such a server; the one of 1.48 lets a short last block
# pass.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((2 * 1024 * 1024 + 512))
start_nbdkit destination --filter=log memory 3M logfile="$tmp/requests"

# shellcheck disable=SC2016 # of the plugin's shell
refuse='[ $(($3 % 4096)) -eq 0 ] || { echo "EINVAL no whole blocks" >&2; exit 1; }'
for policy in error allow; do
  echo "-- $policy"
  [ $policy = error ] || refuse=:
  start_proxy proxy eval thread_model='echo parallel' get_size="echo $size" \
    block_size='echo 4096 4096 32M' \
    pread="$refuse; dd if=/dev/zero count=\$3 iflag=count_bytes"
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
