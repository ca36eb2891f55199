#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination that can be reached again each time, and is lost with the first
# write each time, is not tried for longer than --reconnect allows.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq

start_destination ()
{
  start_nbdkit destination --filter=error file "$tmp/disk" \
    error-pwrite=ESHUTDOWN error-pwrite-rate=100% error-pwrite-file="$tmp/goes"
}

# Some versions of nbdkit end when a client goes that has requests in flight.
keep_up ()
{
  if ! is_running "${pids[destination]}"; then
    crash_bg destination
    start_destination
  fi
  ! is_running "${pids[migrator]}"
}

start_proxy proxy memory 8M
fill "$(uri proxy)" 70
truncate -s 8M "$tmp/disk"
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 1M
start_destination
start_migrate --wait --finish=detach --reconnect=3s "$(uri proxy)" \
  "$(uri destination)"
wait_for is_ready
touch "$tmp/goes"
wait_for keep_up
has_events lost 2 || fail "it was lost once only"
must_end 1 'was tried for'
guest_goes_on guest
stop_guest guest
