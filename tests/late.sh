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

# only_held_is_left NAME BYTES: of a copy of so much from the proxy to it, whose migrator
# can be killed then without a request that is sent in part.
only_held_is_left ()
{
  local held

  held=$(awk '$5 == "came" { n += $4 } $5 == "answered" { n -= $4 }
              END { print n + 0 }' "$tmp/$1.cue/log")
  has_status "$(uri proxy)" ".progress.copied_bytes == $(($2 - held))"
}

# What nothing but a restart forgets.
late_forget ()
{
  rm -rf "$tmp/$1.cue"
}

# start_late_qemu_nbd NAME SERVER: a qemu-nbd in front of such a destination.  It closes
# connections before it has done what it was asked for.  Before QEMU 11 it keeps an
# answer that it has had until the next one comes
# (findings/qemu-nbd-answer-waits.sh), for as long as "hold" says, so it gets
# something to answer all the time.
start_late_qemu_nbd ()
{
  start_qemu_nbd "$1" -f raw -e 16 "$(uri "$2")"
  # shellcheck disable=SC2016
  [ -n "${pids[$1.reader]:-}" ] || start_bg "$1.reader" bash -c '
    trap "kill \$!; exit 0" TERM
    while :; do
      qemu-io -r -f raw -c "read 0 512" "$0" &
      wait
      sleep 0.2 &
      wait
    done' "$(uri "$1")"
}
