# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# Destinations that are slow, hang or forget on cue (tests/plugins/late.c).
# Sourced after tests/functions.sh.

# start_late NAME ARGUMENT...: on the file $tmp/NAME.img, as "server_uri NAME"
# says.  In the namespace IN, if set (tests/net.sh), and there by TCP.
start_late ()
{
  local name=$1

  shift
  mkdir -p "$tmp/$name.cue"
  start_nbdkit "$name" "$BUILD/tests/nbdkit-late-plugin.so" \
    file="$tmp/$name.img" cue="$tmp/$name.cue" "$@"
}

# cue NAME RULE...: what becomes of its requests from now on; without a rule
# all are served.
cue ()
{
  local dir=$tmp/$1.cue

  shift
  printf '%s\n' "$@" > "$dir/rules.new"
  mv "$dir/rules.new" "$dir/rules"
}

# go NAME WHAT: ends the waiting of "hold until=WHAT", or "apply".
go ()
{
  : > "$tmp/$1.cue/$2"
}

# late_has NAME REGEX [N]: whether at least N lines of its log (1) are so:
# "NUMBER KIND OFFSET LENGTH EVENT".
late_has ()
{
  local n

  n=$(grep -cE -- "$2" "$tmp/$1.cue/log" 2> /dev/null) || :
  ((${n:-0} >= ${3:-1}))
}

# What nothing but a restart forgets.
late_forget ()
{
  rm -rf "$tmp/$1.cue"
}
