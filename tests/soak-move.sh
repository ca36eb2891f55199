#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# soak-move.sh: one guest, one proxy, two servers with volatile caches; the disk
# moves from one to the other and back, and while it does, something is killed at
# a random moment: nbdmigrate, either server, the proxy.  Then all is started
# again and the move is repeated until it succeeds.  A referee judges.  Too long
# for every day; no part of `make check`.
#
#   BUILD=DIR  ROUNDS=20  SEED=N

set -euo pipefail
SRCDIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(cd "${BUILD:-$SRCDIR/build}" && pwd)
# shellcheck source=tests/functions.sh
source "$SRCDIR/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

rounds=${ROUNDS:-20}
size=$((16 * 1024 * 1024 + 512))
RANDOM=$((seed % 32768))
here=a there=b     # the servers; the disk is here
lost_cache=()      # for the guest when it is resumed

start_the_proxy ()
{
  start_proxy proxy file "$tmp/first" migrate-reconnect=60s
}

guest_options=(--depth 16 --rate 4M --expect-disconnect --expect-shutdown)

resume_guest ()
{
  start_bg guest "$referee" run --uri "$(uri proxy)" --log "$tmp/guest.record" \
    --resume "${guest_options[@]}" "${lost_cache[@]}"
  lost_cache=()
}

start_move ()
{
  start_migrate --max-pause=2s "$(uri proxy)" "$(uri "$there")"
}

is_done ()
{
  ! is_child "${pids[migrator]}"
}

# Some time, or until it is over.
let_it_run ()
{
  local n=$((RANDOM % 200))

  n=$((n + $(grep -c '^A' "$tmp/guest.record")))
  until guest_has_acked guest $n || is_done; do
    sleep 0.01
  done
}

restart_server ()
{
  crash_bg "$1"
  start_late "$1" volatile=1
}

# nbdkit before 1.34 may end when a client is killed with answers on their way.
# revive SERVER: true if it had ended.
revive ()
{
  ! is_child "${pids[$1]}" || return
  echo "  $1 has ended by itself"
  restart_server "$1"
}

kill_migrator ()
{
  crash_bg migrator
  revive a || :
  revive b || :
}

kill_here ()
{
  restart_server "$here"
}

kill_there ()
{
  restart_server "$there"
}

kill_proxy ()
{
  crash_bg proxy
  wait_bg guest || fail "the guest saw something wrong"
  for server in a b; do
    ! revive "$server" || lost_cache=(--lost-cache)
  done
  start_the_proxy
  resume_guest
}

kill_all ()
{
  crash_bg proxy
  wait_bg guest || fail "the guest saw something wrong"
  restart_server a
  restart_server b
  start_the_proxy
  lost_cache=(--lost-cache)
  resume_guest
}

victims=(kill_migrator kill_here kill_there kill_proxy kill_all)
truncate -s $size "$tmp/first" "$tmp/a.img" "$tmp/b.img"
start_the_proxy
start_late a volatile=1
start_late b volatile=1
must_migrate "$(uri proxy)" "$(uri a)"
start_guest guest "$(uri proxy)" "${guest_options[@]}"
for ((round = 1; round <= rounds; round++)); do
  victim=${victims[RANDOM % ${#victims[@]}]}
  start_move
  let_it_run
  "$victim"
  status=killed
  [ -z "${pids[migrator]:-}" ] || {
    status=0
    WAIT_SECONDS=120 wait_bg migrator || status=$?
  }
  echo "round $round: to $there, $victim, exit status $status"
  until has_status "$tmp/proxy.dir" ".destination == \"$(uri "$there")\" and
                                     .owner == \"destination\""; do
    revive a || :
    revive b || :
    start_move
    status=0
    WAIT_SECONDS=120 wait_bg migrator || status=$?
    echo "  again: exit status $status"
  done
  guest_goes_on guest 20
  read -r here there <<< "$there $here"
done
stop_guest guest
verify_final guest "$(uri proxy)"
end_bg proxy
verify_final guest "$(uri "$here")"
