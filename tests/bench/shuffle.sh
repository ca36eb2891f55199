# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2154
#
# The order of what is measured.  Sourced after tests/functions.sh.

RANDOM=$((seed % 32768))

# shuffle WORD...: in "$shuffled".
shuffle ()
{
  local words=("$@") i j

  for ((i = ${#words[@]} - 1; i > 0; i--)); do
    j=$((RANDOM % (i + 1)))
    set -- "${words[i]}" "${words[j]}"
    words[i]=$2 words[j]=$1
  done
  shuffled=("${words[@]}")
}
