#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Disks of odd sizes, down to nothing, to a destination whose content must be
# overwritten: the last byte counts.  Both ways to finish.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

chunk=65536

# finish MODE SIZE: a guest writes meanwhile, if there is anything to write to.
finish ()
{
  local guest=guest-$2-$1 more=()

  [ "$1" = detach ] || more=(--expect-shutdown)
  [ "$2" -eq 0 ] ||
    start_guest "$guest" "$(uri proxy)" --initial "$pattern" --cells 1024 \
      "${more[@]}"
  must_migrate "--finish=$1" "$(uri proxy)" "$(uri destination)"
  [ "$(completed disk_bytes)" -eq "$2" ]
  [ "$2" -ne 0 ] || return 0
  if [ "$1" = detach ]; then
    verify_cut "$guest" "$(uri destination)"
    stop_guest "$guest"
    verify_final "$guest" "$(uri proxy)"
  else
    wait_bg "$guest" || fail "the guest ended with exit status $?"
    verify_final "$guest" "$(uri destination)"
  fi
}

# try SIZE DENSITY
try ()
{
  echo "-- $1 bytes"
  for mode in detach handover; do
    start_proxy proxy memory "$1"
    start_nbdkit destination memory "$1"
    [ "$1" -gt $((1 << 20)) ] ||
      "$referee" pattern --uri "$(uri destination)" --seed 1 --density 100
    fill "$(uri proxy)" "$2"
    finish $mode "$1"
    end_bg proxy
    end_bg destination
    rm -r "$tmp/proxy.dir"
  done
}

for size in 0 1 511 512 $((chunk - 1)) $((chunk + 1)) $((3 * chunk)); do
  try $size 100
done
try $(((1 << 30) + 513)) 1
