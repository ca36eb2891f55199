#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A migrator that is killed leaves guest and proxy running, and the next run
# goes on where it was.  So does one that is asked to stop by SIGINT or SIGTERM,
# which ends with exit status 3.  When the proxy is killed, that is what is said.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((32 * 1024 * 1024 + 1234))
truncate -s $size "$tmp/source" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 2M

has_copied ()
{
  [ "$(event 'map(select(.event == "progress").copied_bytes) | max // 0')" \
    -ge "$1" ] && return
  is_running "${pids[migrator]}" || fail "the migrator ended early"
  return 1
}

session_is_over ()
{
  [ "$(status .session)" = false ]
}

# interrupt SIGNAL: in the bulk pass.  The wish to copy slowly keeps it there.
interrupt ()
{
  start_migrate --finish=detach --rate=8M "$@" "$(uri proxy)" \
    "$(uri destination)"
  wait_for has_copied 4000000
}

echo "-- SIGKILL"
interrupt --restart
crash_bg migrator
wait_for session_is_over
guest_goes_on guest
[ "$(status .last_end)" = interrupted ]
[ "$(status .tracking)" = true ]
[ "$(status .gate)" = open ]

for signal in INT TERM; do
  echo "-- SIG$signal"
  interrupt
  kill_bg migrator $signal
  expect_status 3 wait_bg migrator
  [ "$(event 'map(select(.event == "failed")) | last | .status')" -eq 3 ]
  [ "$(event 'map(select(.event == "started")) | last |
              .disks[0].resumed')" = true ]
  tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative'
  guest_goes_on guest
  wait_for session_is_over
  [ "$(status .last_end)" = interrupted ]
done

echo "-- the last run completes"
must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
[ "$(completed resumed)" = true ]
verify_cut guest "$(uri destination)"
stop_guest guest
verify_final guest "$(uri proxy)"

# While it copies, or waits to be told to finish: it never ends by itself.
for rate in --rate=8M ''; do
  echo "-- the proxy is killed $rate"
  start_migrate --finish=detach --restart --wait $rate \
    "$(uri proxy)" "$(uri destination)"
  wait_for has_copied 4000000
  crash_bg proxy
  expect_status 1 wait_bg migrator
  sed 's/^/   /' "$tmp/migrator.log"
  grep -q "the proxy of $(uri proxy) has gone (.*): start it again" \
    "$tmp/migrator.log" || fail "that the proxy has gone is not said"
  tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative'
  start_proxy proxy file "$tmp/source"
done
