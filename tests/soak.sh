#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# soak.sh: migrate one disk again and again under load, each run judged by the
# referee.  Too long for every day; no part of `make check`.
#
#   BUILD=DIR  RUNS=20  SIZE=2G  RATE=20M (of the guest's writes)

set -euo pipefail
SRCDIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(cd "${BUILD:-$SRCDIR/build}" && pwd)
# shellcheck source=tests/functions.sh
source "$SRCDIR/tests/functions.sh"
requires nbdkit jq

start_proxy proxy memory "${SIZE:-2G}"
start_nbdkit destination memory "${SIZE:-2G}"
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern" --rate "${RATE:-20M}" \
  --cells 65536

for ((i = 1; i <= ${RUNS:-20}; i++)); do
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  # The guest would make the comparison slow.
  kill_bg guest STOP
  verify_cut guest "$(uri destination)" > "$tmp/verdict"
  kill_bg guest CONT
  guest_goes_on guest
  echo "run $i: $(completed passes) passes, $(completed duration_ms) ms," \
       "pause $(completed pause_ms) ms"
done
stop_guest guest
verify_final guest "$(uri proxy)"
