#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A migrator that is killed while its reads are in flight does not end the proxy,
# whatever nbdkit makes of a client that goes away (gaps/linger.h).
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

RANDOM=$((seed % 32768))
S=$(uri proxy) D=$(uri destination)
must_live=(proxy)

# has_logged REGEX N: the proxy's plugin, so many times.
has_logged ()
{
  local n

  n=$(grep -cE "$1" "$tmp/requests") || :
  ((n >= $2))
}

has_no_session ()
{
  [ "$(status .session)" = false ]
}

echo "-- one reply blocks, and others wait behind it"
start_proxy proxy --filter=log memory 16M logfile="$tmp/requests"
start_guest guest "$S" --depth 4 --kinds rw
for ((i = 0; i < 5; i++)); do
  n=$(grep -c 'Read .*count=0x100000 ' "$tmp/requests") || :
  ((i % 2)) && later=(--later) || later=()
  start_bg reader "$BUILD/tests/dying-reader" "$tmp/proxy.dir/control" "$S" \
    "${later[@]}"
  wait_for is_file "$tmp/reader.out"
  wait_for has_logged 'Read .*count=0x100000 ' $((n + 16))
  # Reads of a guest in between: by now all replies have begun, or wait.
  guest_goes_on guest
  n=$(grep -c ' Disconnect ' "$tmp/requests") || :
  crash_bg reader
  wait_for has_no_session
  # All were answered.
  wait_for has_logged ' Disconnect ' $((n + 1))
  guest_goes_on guest
done
stop_guest guest

echo "-- not more sockets than there are"
start_talker proxy
talk attach
ask begin "{\"destination\": \"$D\", \"source_sockets\": 9}"
[[ $answer == *BadArgument*source_sockets* ]] || fail "$answer"
ask source-sockets
[[ $answer == *NoSession* ]] || fail "$answer"
talk begin "{\"destination\": \"$D\"}"
ask source-sockets
[[ $answer == *BadArgument*sockets* ]] || fail "$answer"
stop_talker
end_bg proxy
rm -r "$tmp/proxy.dir" "$tmp/guest.record"

echo "-- at any moment"
# What nbdkit does with a request that sleeps when its client goes away is to end
# the sleep: so many replies are made at once.
start_proxy proxy --filter=delay memory 16M rdelay=20ms
fill "$S" 90
start_nbdkit destination memory 16M
start_guest guest "$S" --initial "$pattern" --depth 4 --kinds wf
for ((i = 0; i < 8; i++)); do
  ((i % 2)) && more=() || more=(--no-shared-memory)
  start_migrate --restart --finish=detach --depth=16 "${more[@]}" "$S" "$D"
  wait_for has_event started
  sleep 0.0$((RANDOM % 10))
  crash_bg migrator
  wait_for has_no_session
  guest_goes_on guest 10
done
stop_guest guest
must_migrate --finish=detach --verify "$S" "$D"
verify_final guest "$D"
