#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A source proxy that admits few connections is read over one, beside the
# guest's; only a number of connections that was asked for must be had.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((4 * 1024 * 1024 + 512))

# The guest's, and two for whoever moves the disk.
start_all ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/guest.record"
  start_nbdkit proxy --filter=limit --filter="$filter" memory $size limit=3 \
    migrate-dir="$tmp/proxy.dir"
  start_nbdkit destination --filter=log memory $size logfile="$tmp/requests"
  start_guest guest "$(uri proxy)" --connections 1 --rate 2M
}

stop_all ()
{
  guest_goes_on guest
  stop_guest guest
  verify_final guest "$(uri proxy)"
  end_bg proxy
  end_bg destination
}

for finish in detach pivot; do
  echo "-- $finish"
  start_all
  must_migrate --finish=$finish "$(uri proxy)" "$(uri destination)"
  sed 's/^/   /' "$tmp/migrate.log"
  grep -qF "the source $(uri proxy) admits fewer than" "$tmp/migrate.log" ||
    fail "it does not say so"
  [ $finish = pivot ] || verify_cut guest "$(uri destination)"
  stop_all
done

echo "-- more were asked for than are admitted"
start_all
expect_status 1 migrate --finish=detach --connections=3 "$(uri proxy)" \
  "$(uri destination)"
sed 's/^/   /' "$tmp/migrate.log"
grep -qE "connecting to the source $(uri proxy | sed 's/[+?.]/\\&/g'): [12] connections? could be had" \
  "$tmp/migrate.log" || fail "it does not say why"
! grep -E ' (Write|Zero|Trim) ' "$tmp/requests" || fail "something was written"
stop_all
