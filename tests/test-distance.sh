#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Destinations far away, and slow ones: the copy ends, it is right, and there
# are more requests in flight than nearby.  What was asked for holds.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/between.sh
source "$SRCDIR/tests/between.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq nbdcopy

size=$((8 * 1024 * 1024 + 512))
start_proxy proxy memory $size
fill "$(uri proxy)" 60 > "$tmp/fill.out"

# in_flight: so many writes may be, as it was found.
in_flight ()
{
  completed 'disks[0].writes | .connections * .depth'
}

for ms in 1 5 20 50 100; do
  echo "-- $ms ms away"
  start_nbdkit server memory $size
  start_long_way far $ms "unix:$tmp/server.sock"
  must_migrate --finish=detach "$(uri proxy)" "$(uri far)"
  same_content "$(uri proxy)" "$(uri server)"
  echo "   $(completed 'disks[0].writes | tostring')"
  ((ms < 20 || $(in_flight) >= 16)) || fail "too few writes in flight"
  end_bg far
  end_bg server
done

for ms in 5 50; do
  echo "-- each read and write takes $ms ms"
  start_nbdkit server --filter=delay memory $size rdelay=${ms}ms wdelay=${ms}ms
  must_migrate --finish=detach "$(uri proxy)" "$(uri server)"
  echo "   $(completed 'disks[0].writes | tostring')"
  end_bg server
done

echo "-- asked for"
truncate -s $size "$tmp/server.img"
start_late server
cue server 'write hold until=now least=5000'
start_migrate --finish=detach --connections=2 --depth=3 --request-size=64K \
  "$(uri proxy)" "$(uri server)"
wait_for late_has server ' write .* came$' 3
cue server
go server now
wait_bg migrator || fail "the migration failed"
[ "$(completed 'disks[0].writes | tostring')" = \
  '{"connections":2,"depth":3,"request_bytes":65536}' ] ||
  fail "it was not kept to: $(completed 'disks[0].writes | tostring')"
end_bg server
