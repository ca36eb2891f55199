#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Without memory 'status' and 'set' say so, or do what they do otherwise: nothing of
# a status is missing, nor is a part of what is wished.  Of each place of theirs that
# wants memory the first call fails once.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq
[ -z "${SANITIZER:-}" ] || skip "a sanitizer has malloc and its kind for itself"

beat=: # what keeps a session alive meanwhile
export CALLS_TABLE=$tmp/table CALLS_LOG=$tmp/calls

# with_calls OUT COMMAND...: what is asked for by CALLS_FAIL fails.
with_calls ()
{
  local out=$1

  shift
  rm -f "$tmp/table" "$tmp/calls"
  truncate -s 256K "$tmp/table"
  LD_PRELOAD=$BUILD/tests/calls-fail-preload.so "$nbdmigrate" "$@" \
    > "$tmp/$out.out" 2> "$tmp/$out.err"
}

# each_fails CHECK COMMAND...: CHECK tells whether all was done.
each_fails ()
{
  local check=$1 place places said=0 same=0

  shift
  with_calls sound "$@" || fail "$*: $(cat "$tmp/sound.err")"
  "$check" sound || fail "$*, and no call had failed: $(cat "$tmp/sound.out")"
  mapfile -t places < <(awk '$3 == 1 && $5 == 12 { print $2 }' "$tmp/calls" | sort -u)
  ((${#places[@]} > 0)) || fail "$*: there is no call to fail"
  for place in "${places[@]}"; do
    $beat
    if CALLS_FAIL=$place:1 with_calls failed "$@"; then
      same=$((same + 1))
      "$check" failed ||
        fail "$*: something is missing: $(grep ^fail "$tmp/calls" || :) $(diff "$tmp/sound.out" "$tmp/failed.out")"
    else
      said=$((said + 1))
      grep -q 'memory' "$tmp/failed.err" ||
        fail "$*: no reason: $(grep ^fail "$tmp/calls" || :) $(cat "$tmp/failed.err")"
    fi
  done
  echo "$*: ${#places[@]} places, $said said, $same of no consequence"
}

# What a status consists of; figures change.
has_all_members ()
{
  jq -c '[paths]' "$tmp/$1.out" > "$tmp/$1.paths" &&
    cmp -s "$tmp/sound.paths" "$tmp/$1.paths"
}

has_all_lines ()
{
  [ -s "$tmp/sound.out" ] &&
    [ "$(wc -l < "$tmp/sound.out")" = "$(wc -l < "$tmp/$1.out")" ]
}

# And another wish is there for the next one.
has_all_wishes ()
{
  talk status
  [ "$(answered '.return.wishes | "\(.rate) \(.background)"')" = '7340032 30' ] ||
    return
  "$nbdmigrate" set "$tmp/proxy.dir" rate=1M background=1
}

start_proxy proxy memory 1M
nbdinfo --size "$(uri proxy)" > "$tmp/size"
each_fails has_all_members status --json "$tmp/proxy.dir"

each_fails has_all_members status --json "$(uri proxy)"
each_fails has_all_lines status "$tmp/proxy.dir"

start_talker proxy
talk attach
talk begin "{\"destination\": \"$(uri nowhere)\"}"
beat='talk status'
each_fails has_all_wishes set "$tmp/proxy.dir" rate=7M background=30
beat=:
talk end
stop_talker
end_bg proxy

echo "-- of a proxy that has ended"
touch "$tmp/proxy.dir/kept"
each_fails has_all_members status --json "$tmp/proxy.dir"
