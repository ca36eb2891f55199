#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The cable of the destination is pulled during the copy, and the migrator is
# killed.  What was in its sockets does not follow when the cable is plugged in
# again, as it would after shutdown and close, unless the proxy waits for the
# answer: and then the next run is not cut over before it has come (R7, R17).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
requires nbdkit jq qemu-io ss

add_host a
add_host b
at_port b 10809 start_nbdkit destination memory 16M
in_host a start_proxy proxy memory 16M
fill "$(uri proxy)" 100

copies ()
{
  [ "$(event 'map(select(.event == "progress").copied_bytes) | max // 0')" \
    -ge 4000000 ]
}

# How many connections to the destination have something in their queue, whoever
# has the socket; in this state.  A mere end of the stream counts as one byte.
queues ()
{
  in_host a ss -Htn state "$1" 'dport = :10809' |
    awk '$2 > 1 { n++ } END { print n + 0 }'
}

has_queue ()
{
  [ "$(queues established)" -gt 0 ]
}

session_is_over ()
{
  [ "$(status .session)" = false ]
}

in_host a start_migrate --rate=8M "$(uri proxy)" "$(uri destination)"
wait_for copies
pull b
wait_for has_queue
crash_bg migrator
wait_for session_is_over
watched=$(status .old_connections)
echo "$(queues connected) queues, $watched connections watched"
[ "$(queues fin-wait-1)" -eq 0 ] || fail "what is given up will be delivered"
[ "$(queues connected)" -le "$watched" ] || fail "a queue that nobody watches"
plug b

in_host a must_migrate "$(uri proxy)" "$(uri destination)"
cat "$tmp/migrate.log"
[ "$(queues connected)" -eq 0 ] || fail "something old is on its way"
qemu-io -f raw -c 'write -P 0x4e 0 16M' -c flush "$(uri proxy)" \
  > "$tmp/qemu-io.out"
in_host b qemu-io -f raw -c 'read -P 0x4e 0 16M' "$(uri destination)" \
  > "$tmp/qemu-io.out"
! grep 'verification failed' "$tmp/qemu-io.out" || fail "an old write landed"
end_bg proxy
# It never hears of the resets that the cable lost, and would wait for these
# connections.
crash_bg destination
