#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# check.sh [TEST...]: install what is missing, build, run these tests, or all
# (TEST as for tests/run.sh).  The last line is "N passed, N failed, N skipped";
# exit status 0 if nothing failed.
#
#   PACKAGES='LIST...'    of tests/packages.sh, for what is less than all tests
#                         (default: build tests)
#
# and the variables of tests/run.sh.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=tests/packages.sh
source tests/packages.sh

# What cannot be built has failed, and is counted.
fail ()
{
  echo "check.sh: $1" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

read -r -a lists <<< "${PACKAGES:-build tests}"
install_missing "${lists[@]}" || fail "packages are missing, see above"
refresh_lists
# The planted bugs are for a few tests only.
target=check-programs
if [ $# -eq 0 ] || [[ " $* " == *test-planted-* ]]; then
  target=check-build
fi
make -j"$(nproc)" "$target" < /dev/null || fail "the build failed, see above"
exec tests/run.sh "$@"
