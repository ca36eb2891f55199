#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Connections with TLS are driven by threads, not more than there are processors
# besides the main thread's.  What happens to a migration happens with them as
# well: a destination that is killed or stopped, a migrator that is killed or
# interrupted; and in the end the copy is right.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq
nbdkit --dump-config | grep -q '^tls=yes' || skip "nbdkit without TLS"

size=$((32 * 1024 * 1024 + 1234))
truncate -s $size "$tmp/source" "$tmp/disk"
echo "user:$(printf '%064x' 77)" > "$tmp/keys.psk"
chmod 600 "$tmp/keys.psk"
D="nbds+unix://user@/?socket=$tmp/destination.sock&tls-psk-file=$tmp/keys.psk"

start_destination ()
{
  start_nbdkit destination --tls=require --tls-psk="$tmp/keys.psk" \
    file "$tmp/disk"
}

has_copied ()
{
  [ "$(event 'map(select(.event == "progress").copied_bytes) | max // 0')" \
    -ge "$1" ] && return
  is_running "${pids[migrator]}" || fail "the migrator ended early"
  return 1
}

# begin_copy ARGUMENT...: with TLS; the wish to copy slowly keeps it there.
begin_copy ()
{
  start_migrate --finish=detach --rate=8M "$@" "$(uri proxy)" "$D"
  wait_for has_copied 4000000
}

session_is_over ()
{
  [ "$(status .session)" = false ]
}

# How many threads drive connections.
drivers ()
{
  grep -lx connections "/proc/${pids[migrator]}/task/"*/comm | wc -l
}

start_proxy proxy file "$tmp/source"
start_destination
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 1M

echo "-- threads; the destination is killed"
begin_copy --reconnect=0
n=$(drivers) processors=$(nproc)
echo "$n of them, $processors processors"
((n <= processors - 1)) || fail "more threads than processors"
((processors == 1 || n > 0)) || fail "no threads"
crash_bg destination
expect_status 1 wait_bg migrator
grep -q 'source .* authoritative' "$tmp/migrator.log"
guest_goes_on guest

echo "-- the migrator is interrupted"
start_destination
begin_copy
kill_bg migrator INT
expect_status 3 wait_bg migrator
guest_goes_on guest
wait_for session_is_over

echo "-- it is killed"
begin_copy
crash_bg migrator
wait_for session_is_over
guest_goes_on guest

echo "-- the destination is stopped for a while"
begin_copy --verify
kill_bg destination STOP
wait_for has_status "$(uri proxy)" '.progress.silent == "destination"'
kill_bg destination CONT
"$nbdmigrate" set "$(uri proxy)" rate=0
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
stop_guest guest
end_bg destination
start_nbdkit destination file "$tmp/disk" # which the referee can connect to
verify_cut guest "$(uri destination)"
verify_final guest "$(uri proxy)"
