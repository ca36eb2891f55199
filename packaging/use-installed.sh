#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# With what is installed, found where nbdkit and the shell look for it: move a disk,
# compare, and move it back.  Needs nbdkit, its filter, nbdmigrate and nbdcopy.

set -euo pipefail
work=$(mktemp -d)
servers=()

clean_up ()
{
  kill "${servers[@]}" 2> /dev/null || :
  wait
  rm -rf "$work"
}
trap clean_up EXIT

# serve NAME ARGUMENT...
serve ()
{
  local name=$1 i
  shift

  nbdkit -f -U "$work/$name.sock" -P "$work/$name.pid" "$@" < /dev/null &
  servers+=($!)
  for ((i = 0; i < 300; i++)); do
    [ ! -s "$work/$name.pid" ] || return 0
    sleep 0.1
  done
  echo "$name does not start" >&2
  exit 1
}

uri ()
{
  echo "nbd+unix:///?socket=$work/$1.sock"
}

# Both sides are what was written at first.
compare ()
{
  nbdcopy "$(uri "$1")" - | cmp - "$work/written"
}

nbdmigrate --version
nbdkit --filter=migrate null --help | grep migrate-dir > /dev/null

truncate -s 16M "$work/source.img" "$work/destination.img"
serve source --filter=migrate file "$work/source.img" migrate-dir="$work/state"
serve destination file "$work/destination.img"
head -c 8M /dev/urandom > "$work/written"
truncate -s 16M "$work/written"
nbdcopy "$work/written" "$(uri source)"

nbdmigrate --finish=detach --verify "$(uri source)" "$(uri destination)"
compare destination
nbdmigrate "$(uri source)" "$(uri destination)"
nbdmigrate status "$(uri source)"
compare source
nbdmigrate "$(uri source)" local:
cmp "$work/source.img" "$work/written"

# The shell's completion of it, as it is loaded when Tab is pressed.
# shellcheck source=/dev/null
source /usr/share/bash-completion/completions/nbdmigrate
COMP_LINE="nbdmigrate --finish=p" COMP_POINT=21
_nbdmigrate nbdmigrate
[ "${COMPREPLY[*]}" = pivot ]
