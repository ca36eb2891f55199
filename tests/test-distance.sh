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

echo "-- further connections are begun before the first one is made"
start_nbdkit server -v memory $size
start_long_way far 200 "unix:$tmp/server.sock"
must_migrate --finish=detach "$(uri proxy)" "$(uri far)"
grep -oE 'accepted connection|NBD_OPT_GO: client requested' "$tmp/server.log" |
  uniq -c | head -n 2 | tr -s ' \n' ' ' > "$tmp/order"
[[ $(cat "$tmp/order") == ' 8 accepted connection 8 '* ]] ||
  fail "it began with: $(cat "$tmp/order")"
end_bg far
end_bg server

echo "-- that does no harm where they are not admitted, or not used"
for filter_of in 'limit limit=2' 'multi-conn multi-conn-mode=disable'; do
  # shellcheck disable=SC2086
  set -- $filter_of
  start_nbdkit server --filter="$1" memory $size "$2"
  start_long_way far 20 "unix:$tmp/server.sock"
  must_migrate --finish=detach "$(uri proxy)" "$(uri far)"
  same_content "$(uri proxy)" "$(uri server)"
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

# Nothing is flushed by itself before the first data is written.
echo "-- a mark is written and flushed in one round trip"
start_nbdkit server --filter=log --filter=noextents memory $size \
  logfile="$tmp/requests"
must_migrate --finish=detach "$(uri proxy)" "$(uri server)"
grep -aE ' (Write|Zero|Flush) id' "$tmp/requests" |
  awk '/ Flush /{ print "flush" } !/ Flush /{ print /fua=1/ ? "through" : "write" }' |
  uniq | head -n 2 | tr '\n' ' ' > "$tmp/order"
[ "$(cat "$tmp/order")" = 'through write ' ] ||
  fail "it began with: $(cat "$tmp/order")"
end_bg server

# An nbdkit before 1.34 ends with a client that dies while it waits for several
# answers with data.  (It opens the disk late, as on a busy machine.)
echo "-- a proxy answers one read at a time on a connection, however late it opens"
end_bg proxy
start_nbdkit proxy --filter=log --filter=delay --filter="$filter" memory $size \
  migrate-dir="$tmp/late.dir" delay-open=40ms rdelay=5ms logfile="$tmp/reads"
fill "$(uri proxy)" 60 > "$tmp/fill.out"
start_nbdkit server memory $size
must_migrate --finish=detach "$(uri proxy)" "$(uri server)"
grep -aE ' (\.\.\.)?Read id' "$tmp/reads" |
  sed -n 's/.* connection=\([0-9]*\) \(\.*\)Read .*/\1 \2/p' |
  awk '{ n[$1] += $2 == "" ? 1 : -1; if (n[$1] > most) most = n[$1] }
       END { print most + 0 }' > "$tmp/most"
[ "$(cat "$tmp/most")" -eq 1 ] || fail "$(cat "$tmp/most") reads at a time"
end_bg server

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
