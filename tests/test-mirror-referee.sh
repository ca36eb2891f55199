#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A guest that knows what it has written, while its writes are tracked, mirrored,
# meet a destination that stalls, or one that refuses, in an order of chance, and
# then go there alone: nothing may be missing, and the guest sees no error.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/mirror.sh
source "$SRCDIR/tests/mirror.sh"
requires nbdkit nbdcopy jq nbdinfo

RANDOM=$((seed % 32768))
chunks=64
start_mirror $((chunks * chunk))
start_guest guest "$(uri proxy)" --depth 16 --connections 2 --cells 512 \
  --rate 512K

# All that is dirty, some chunks after the other: most are clean then.
copy_some ()
{
  cursor=0
  while ((cursor < chunks * chunk)); do
    copy_from "$cursor" $((chunk * (8 + RANDOM % 16)))
  done
  flush_all
}

track ()
{
  mirror_off
  copy_some
}

both ()
{
  mirror_on
  copy_some
  copy_some
}

# The guest's own pace ends the stall: its writes are not held up.
# A busy machine may have it off before anybody has seen it on.
stalled ()
{
  talk mirror '{"enabled": true, "max_ms": 30}'
  wait_for is_tracked '.mirror.state != "starting"'
  copy_some
  n=$((n + 1))
  cue destination "write hold until=go$n count=$((1 + RANDOM % 4))" \
    "write late ms=50 count=4"
  goes_on_beside 100
  go destination "go$n"
  cue destination
}

refused ()
{
  mirror_on
  cue destination 'write,zero fail count=5'
  goes_on_beside 100
  cue destination
  copy_some
}

n=0
modes=(track both stalled refused both stalled both)
for ((i = 0; i < 6; i++)); do
  mode=${modes[RANDOM % ${#modes[@]}]}
  echo "-- $mode"
  $mode
done
both
mirrored=$(tracked .mirror.writes)
((mirrored > 0)) || fail "nothing was mirrored"
wait_for is_tracked '.mirror.unanswered == 0 and .old_connections == 0'

echo "-- pivot, $mirrored writes were mirrored: $(tracked .mirror)"
talk prepare "{\"destination\": \"$(uri destination)\", \"finish\": \"pivot\"}"
talk hold '{"deadline_ms": 60000}'
token=$(answered .return.token)
settle
talk compare '{"cursor": 0, "max_bytes": 1073741824, "quarantined": true}'
lease=$answer
sides_are_equal || fail "the sides differ in the pause"
talk compared "{\"equal\": true, \"extents\": $(jq -c \
  '.return.extents | map([.[0], .[1]])' <<< "$lease")}"
flush_all
talk commit "{\"token\": \"$token\", \"finish\": \"pivot\"}"
talk release "{\"token\": \"$token\"}"
guest_goes_on guest
stop_guest guest
stop_mirror
start_late destination
verify_final guest "$(uri destination)"
