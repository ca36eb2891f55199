#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A destination that was lost comes back when nbdmigrate may open one file more
# only, so that of the connections that there were one can be had: the migration
# goes on with that.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq prlimit

# may_open N: so many files more.  What counts are the numbers of descriptors.
may_open ()
{
  local fd free=0 pid=${pids[migrator]}

  for ((fd = 0; free < $1; fd++)); do
    [ -e "/proc/$pid/fd/$fd" ] || free=$((free + 1))
  done
  prlimit --pid "$pid" --nofile="$fd:"
}

attempts ()
{
  status '.progress.reconnecting.attempts // 0'
}

# Or something else has that file, and it tries again and again.  (What is tried
# is told now and then only.)
is_back_or_tries ()
{
  has_events reconnected 1 || (($(attempts) >= tried + 6))
}

start_proxy proxy memory 4M
fill "$(uri proxy)" 70
truncate -s 4M "$tmp/disk"
GUEST_ACKS=5 start_guest guest "$(uri proxy)" --initial "$pattern" --rate 100K
start_nbdkit destination file "$tmp/disk"
start_migrate --wait --finish=detach --connections=3 --reconnect=60s \
  "$(uri proxy)" "$(uri destination)"
wait_for is_ready
all=$(prlimit --pid "${pids[migrator]}" --nofile -o SOFT --noheadings)
lose destination
may_open 1
start_nbdkit destination file "$tmp/disk"
tried=$(attempts)
wait_for is_back_or_tries
prlimit --pid "${pids[migrator]}" --nofile="$all:"
wait_for has_events reconnected 1
wait_for is_ready
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migrator ended with exit status $?"
stop_guest guest
verify_cut guest "$(uri destination)"
