#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The folders of the filter and what each may include: itself, lib/ and what is
# named here.  A dependency that is not listed is a mistake in the design, or
# this list is; either way somebody has to decide.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

declare -A below=(
  [base]=""
  [gaps]="base"
  [tracker]="base"
  [remote]="base"
  [relay]="base remote"
  [state]="base gaps"
  [export]="base tracker remote relay state"
  [control]="base tracker remote relay state export"
  [filter]="base gaps tracker remote relay state export control"
)

# These folders are for any program: they know nothing of nbdkit.
free_of_nbdkit="tracker remote relay"

status=0
bad ()
{
  echo "$1"
  status=1
}

for dir in nbdkit-plugin/*/; do
  dir=$(basename "$dir")
  [ -n "${below[$dir]+there}" ] ||
    bad "nbdkit-plugin/$dir/ is not listed in tests/check-layers.sh"
done

while IFS=: read -r file include; do
  dir=$(basename "$(dirname "$file")")
  target=${include%%/*}
  [[ $include == */* ]] || continue
  [[ " $dir ${below[$dir]-} " == *" $target "* ]] ||
    bad "$file includes $include: $dir/ must not depend on $target/"
done < <(grep -oE '^#include "[^"]+"' -r nbdkit-plugin |
           sed -E 's/#include "([^"]+)"/\1/')

for dir in $free_of_nbdkit; do
  if grep -nE '^#include <nbdkit-|^#include <jansson' -r "nbdkit-plugin/$dir" \
       2> /dev/null; then
    bad "nbdkit-plugin/$dir/ must not know nbdkit or JSON"
  fi
done

exit $status
