#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The folders of the filter and of the migrator, and what each may include:
# itself, lib/ and what is named here.  A dependency that is not listed is a mistake in the design, or
# this list is; either way somebody has to decide.

set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

# shellcheck disable=SC2034 # used by name, in check_folders
declare -A filter=(
  [base]=""
  [gaps]="base"
  [tracker]="base"
  [remote]="base"
  [relay]="base remote"
  [mirror]="base remote"
  [state]="base gaps"
  [export]="base tracker remote relay mirror state"
  [control]="base gaps tracker remote relay mirror state export"
  [filter]="base gaps tracker remote relay mirror state export control"
)

# These folders are for any program: they know nothing of nbdkit.
free_of_nbdkit="tracker remote relay mirror"

# shellcheck disable=SC2034 # the same
declare -A migrator=(
  [base]=""
  [policy]=""
  [nbd]="base"
  [copy]="base policy nbd"
  [proxy]="base nbd"
  [disk]="base policy nbd copy proxy"
  [disks]="base policy nbd copy proxy disk"
  [trust]="base nbd copy proxy disk disks"
  [show]="base"
  [run]="base policy nbd copy proxy disk disks trust show"
  [cli]="base policy proxy show run"
)

status=0
bad ()
{
  echo "$1"
  status=1
}

# check_folders TOP: with the array named like it.
check_folders ()
{
  local top=$1 dir file include target
  local -n below=$2

  for dir in "$top"/*/; do
    dir=$(basename "$dir")
    [ -n "${below[$dir]+there}" ] ||
      bad "$top/$dir/ is not listed in tests/check-layers.sh"
  done

  while IFS=: read -r file include; do
    dir=$(basename "$(dirname "$file")")
    target=${include%%/*}
    [[ $include == */* ]] || continue
    [[ " $dir ${below[$dir]-} " == *" $target "* ]] ||
      bad "$file includes $include: $dir/ must not depend on $target/"
  done < <(grep -oE '^#include "[^"]+"' -r "$top" |
             sed -E 's/#include "([^"]+)"/\1/')
}
check_folders nbdkit-plugin filter
check_folders migrator migrator

for dir in $free_of_nbdkit; do
  if grep -nE '^#include <nbdkit-|^#include <jansson' -r "nbdkit-plugin/$dir" \
       2> /dev/null; then
    bad "nbdkit-plugin/$dir/ must not know nbdkit or JSON"
  fi
done

exit $status
