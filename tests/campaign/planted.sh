#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# planted.sh BUG...: the campaign finds out a filter that has one of these bugs
# (BUILD/bug-NAME/) within ROUNDS=60 rounds of the faults that it is about; prints in
# how many, and in which.
#
#   ONLY=REGEX   other faults
#   JOBS=N       rounds at a time (default: 1, so that they are counted as they are)

set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd) || exit 1
export BUILD ROUNDS=${ROUNDS:-60} JOBS=${JOBS:-1} UNTIL_FAILED=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

# cases_for BUG: where it can be seen.
cases_for ()
{
  case $1 in
  drop_failed_lease) echo '^(bulk|rounds) destination (kill|eio|enospc)$' ;;
  lost_keeps_unflushed) echo '^bulk destination kill$' ;;
  *) echo '^(bulk|rounds|mirror)' ;;
  esac
}

for bug; do
  if ONLY=${ONLY:-$(cases_for "$bug")} \
    FILTER=$BUILD/bug-$bug/nbdkit-migrate-filter.so "$here/run.sh" > "$log" 2>&1
  then
    echo "FAILED: $bug is not found out within $ROUNDS rounds"
    status=1
  elif grep -qE 'it holds|differ|does not hold|holds none|no copy' "$log"; then
    echo "$bug: found in round $(sed -n 's/^\([0-9]*\) rounds in .*/\1/p' "$log") of" \
      "$(sed -n 's/^met //p' "$log" | tail -n 1)"
  else
    echo "FAILED: $bug: something else went wrong"
    tail -n 60 "$log"
    status=1
  fi
  sed -n 's/^kept: //p' "$log" | xargs -r rm -r
done
exit $status
