#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Install what is missing, build, run all tests.  The last line is
# "N passed, N failed, N skipped"; exit status 0 if nothing failed.
# The variables of tests/run.sh apply.

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

install_missing build tests || fail "packages are missing, see above"
refresh_lists
make -j"$(nproc)" check-build < /dev/null || fail "the build failed, see above"
exec tests/run.sh
