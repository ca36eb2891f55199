#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The command read-back: what the connections of a prepared pivot see at the
# destination, and what it answers where there are none or the destination has
# gone.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

start_proxy proxy memory 4M
dd if=/dev/urandom of="$tmp/disk" bs=1M count=4 2> "$tmp/dd.log"
start_nbdkit destination --filter=blocksize-policy file "$tmp/disk" \
  blocksize-minimum=4096 blocksize-maximum=64K blocksize-error-policy=error

# digest_of OFFSET LENGTH
digest_of ()
{
  tail -c +$(($1 + 1)) "$tmp/disk" | head -c "$2" | sha256sum | cut -d' ' -f1
}

refused_as ()
{
  ask read-back "$2"
  [ "$(answered .error.class)" = "$1" ] || fail "read-back $2: $answer"
}

nbdinfo --size "$(uri proxy)" # opens the export
start_talker proxy
talk attach '{"export": ""}'
refused_as NoSession '{"extents": [[0, 512]]}'
talk begin "{\"destination\": \"$(uri destination)\"}"
refused_as BadArgument '{"extents": [[0, 512]]}'
talk prepare "{\"destination\": \"$(uri destination)\", \"finish\": \"pivot\"}"

echo "-- ranges inside blocks, over several, side by side, and longer than a request"
ranges='[0, 512], [512, 512], [4000, 200], [65536, 1048576], [4194303, 1]'
talk read-back "{\"extents\": [$ranges]}"
expected=$(digest_of 0 512; digest_of 512 512; digest_of 4000 200
  digest_of 65536 1048576; digest_of 4194303 1)
[ "$(answered '.return.sha256[]')" = "$expected" ] || fail "$answer"

echo "-- over each of them"
# The first is there at once, the others soon.
has_several ()
{
  talk read-back '{"extents": [[0, 1]]}'
  n=$(answered .return.connections)
  [ "$n" -gt 1 ]
}
wait_for has_several
for ((i = 0; i < n; i++)); do
  talk read-back "{\"extents\": [[8192, 4096]], \"connection\": $i}"
  [ "$(answered '.return.sha256[]')" = "$(digest_of 8192 4096)" ]
done
# There may be one more by now, but never so many.
refused_as BadDestination '{"extents": [[0, 1]], "connection": 99}'

echo "-- what cannot be"
for extents in '[]' '[[0]]' '[[0, 0]]' '[[4194303, 2]]' '[[0, 1048577]]' \
               '[[0, 1], 5]' '"x"'; do
  refused_as BadArgument "{\"extents\": $extents}"
done
refused_as BadArgument '{}'
refused_as BadArgument \
  "{\"extents\": [$(printf '[0, 1],%.0s' {1..1024})[0, 1]]}"
refused_as BadArgument "{\"extents\": [$(printf '[0, 1048576],%.0s' {1..64})[0, 1]]}"

echo "-- the destination has gone"
crash_bg destination
refused_as BadDestination '{"extents": [[0, 512]]}'
talk status
stop_talker
