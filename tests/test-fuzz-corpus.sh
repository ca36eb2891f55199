#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Files and lines that readers have to bear (tests/fuzz/): those in the tree, once.
# make fuzz goes on from there.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"

corpus=$(cd "$SRCDIR/tests/fuzz/corpus" && pwd)
programs=$(cd "$BUILD/tests" && pwd)
cd "$tmp"
for dir in "$corpus"/*; do
  target=${dir##*/}
  echo "$target: $("$programs/fuzz-$target" "$dir"/*)"
done
