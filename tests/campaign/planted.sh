#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# planted.sh BUG...: the campaign finds out a filter that has one of these bugs
# (BUILD/bug-NAME/) within ROUNDS=60 rounds of the faults that these are about; prints
# in how many.

set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd) || exit 1
export BUILD ROUNDS=${ROUNDS:-60} UNTIL_FAILED=1
export ONLY=${ONLY:-'^(bulk|rounds|mirror) destination kill$'}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

for bug; do
  if FILTER=$BUILD/bug-$bug/nbdkit-migrate-filter.so "$here/run.sh" > "$log" 2>&1
  then
    echo "FAILED: $bug is not found out within $ROUNDS rounds"
    status=1
  elif grep -qE 'it holds|differ|does not hold|holds none|no copy' "$log"; then
    echo "$bug: $(grep ' rounds in ' "$log" | tail -n 1)"
  else
    echo "FAILED: $bug: something else went wrong"
    tail -n 60 "$log"
    status=1
  fi
  sed -n 's/^kept: //p' "$log" | xargs -r rm -r
done
exit $status
