#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --rate is an upper limit, from the first byte on: by the migrator's own
# account, no more bytes are copied between two progress events than their time
# allows.  Being slower never fails this test.  The account must agree with what
# the destination saw.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((12 * 1024 * 1024))
rate=$((4 * 1024 * 1024))
# What may be in flight, or saved up, at any instant.
burst=$((1024 * 1024))

start_proxy proxy memory $size
start_nbdkit destination --filter=log memory $size \
  logfile="$tmp/destination.requests"

echo "-- zeroes, where they are sent as data"
# It does not say either what reads as zeroes there already: nothing would be sent.
start_nbdkit without --filter=nozero --filter=noextents memory $size
must_migrate --finish=detach --rate=4M "$(uri proxy)" "$(uri without)"
end_bg without
[ "$(completed copied_bytes)" -eq $size ]
[ "$(completed duration_ms)" -ge $(((size - burst) * 1000 / rate)) ] ||
  fail "it took $(completed duration_ms) ms only"

echo "-- data"
fill "$(uri proxy)" 100
must_migrate --finish=detach --rate=4M "$(uri proxy)" "$(uri destination)"
same_content "$(uri proxy)" "$(uri destination)"

event "[.[] | select(.event == \"started\") | .copied_bytes = 0] +
       map(select(.event == \"progress\"))" |
  jq -e --argjson rate $rate --argjson burst $burst '
    [range(0; length) as $i | range($i + 1; length) as $j |
     select(.[$j].copied_bytes - .[$i].copied_bytes >
            (.[$j].time - .[$i].time) * $rate + $burst) |
     [.[$i], .[$j]]] |
    if . == [] then true else (.[0] | debug | false) end' ||
  fail "more was copied than --rate allows"
[ "$(event 'map(select(.event == "progress")) | length')" -ge 3 ] ||
  fail "there were hardly any progress events"

# What is left goes down as the percentage goes up.
event 'map(select(.event == "progress" and .phase == "bulk")) |
       all(.remaining_bytes + .pass_bytes - .pass_total_bytes | fabs <= 1048576)' |
  grep -qx true || fail "what is left lags behind"

# 4M per second take at least (12M - burst) / 4M seconds.
[ "$(completed duration_ms)" -ge $(((size - burst) * 1000 / rate)) ] ||
  fail "it took $(completed duration_ms) ms only"

written=$(sed -n 's/.* Write .* count=\(0x[0-9a-f]*\) .*/\1/p' \
            "$tmp/destination.requests" | { sum=0
            while read -r n; do sum=$((sum + n)); done; echo $sum; })
[ "$written" -eq "$(completed 'copied_bytes + .marked_bytes')" ] ||
  fail "copied_bytes is $(completed copied_bytes), but $written were written"
[ "$(completed copied_bytes)" -eq $size ]
