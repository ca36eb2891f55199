#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# R11: the answer to a commit is lost.  The migrator reconnects and asks: its
# exit status is that of what really happened, and 5 only where nobody can tell.
# R10: while the new owner is being recorded neither the deadline of the pause
# nor the death of the migrator opens the gate.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((2 * 1024 * 1024 + 512))
dir=$tmp/proxy.dir

is_socket ()
{
  [ -S "$1" ]
}

has_line ()
{
  grep -q "$1" "$tmp/steps" 2> /dev/null
}

# begin [NAME=VALUE...]: all anew; the variables are for the proxy.
begin ()
{
  rm -rf "$dir" "$tmp"/*.record "$tmp/source" "$tmp/destination" \
    "$tmp/control" "$tmp/arm" "$tmp/go" "$tmp/steps"
  truncate -s $size "$tmp/source" "$tmp/destination"
  start_nbdkit destination file "$tmp/destination"
  if (($# > 0)); then
    export LD_PRELOAD="$BUILD/tests/crash-preload.so" CRASH_DIR="$dir" \
      CRASH_ARM="$tmp/arm" CRASH_AT=1 CRASH_LOG="$tmp/steps"
    # shellcheck disable=SC2163 # NAME=VALUE
    export "$@"
  fi
  start_proxy proxy file "$tmp/source"
  unset LD_PRELOAD CRASH_HOW CRASH_GO
  start_guest guest "$(uri proxy)" --rate 4M --expect-shutdown \
    --expect-disconnect
}

# The guest is served from the side that has this name, and all is there.
served_from ()
{
  [ "$(status .owner)" = "$1" ] || fail "the owner is not the $1"
  guest_goes_on guest
  stop_guest guest > "$tmp/guest.report"
  verify_final guest "$(uri proxy)" > "$tmp/verdict"
  end_bg proxy
  [ "$1" = source ] || verify_final guest "$(uri destination)" > "$tmp/verdict"
  end_bg destination
}

# lose WHEN STATUS ARGUMENT...: migrate with the answer lost.
lose ()
{
  local when=$1 expected=$2

  shift 2
  echo "-- lost $when the commit: $*"
  begin
  start_bg loser "$BUILD/tests/lose-answer" "$dir/control" "$tmp/control" "$when"
  wait_for is_socket "$tmp/control"
  result=0
  rm -f "$tmp/hurry"
  # On a busy machine a pause is longer, which this is not about.
  hurried 10 start_migrate --max-pause=5s --control="$tmp/control" "$@" \
    "$(uri proxy)" "$(uri destination)"
  if [ "$when" = forever ]; then
    wait_for has_status "$(uri proxy)" '.owner == "destination"'
    touch "$tmp/hurry"
  fi
  wait_bg migrator || result=$?
  [ "$expected" = any ] || [ $result -eq "$expected" ] ||
    fail "exit status $result instead of $expected"
  end_bg loser
}

lose before 1 --finish=pivot
served_from source
lose after 0 --finish=pivot
served_from destination
lose during any --finish=pivot
case $result in
0) served_from destination ;;
1) served_from source ;;
*) fail "exit status $result" ;;
esac
lose after 0 --finish=detach
served_from source

lose after 0 --finish=handover
[ "$(status .owner)" = fenced ]
wait_bg guest || fail "the guest ended with exit status $?"
verify_final guest "$(uri destination)" > "$tmp/verdict"
end_bg proxy
end_bg destination

lose forever 5 --finish=pivot
tail -n 1 "$tmp/migrator.log" | grep -q "not known: ask with 'nbdmigrate status"
[ "$(event 'map(select(.event == "failed")) | last | .status')" -eq 5 ]
served_from destination

# ---- the proxy itself -------------------------------------------------------

# finish_armed: the pivot, and what the proxy was told to do in the commit.
finish_armed ()
{
  rm -f "$tmp/hurry"
  hurried 10 start_migrate --wait "$@" "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  touch "$tmp/arm"
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
}

echo "-- the proxy dies and does not come back"
begin CRASH_HOW=after
finish_armed
expect_status 137 wait_bg proxy
touch "$tmp/hurry"
expect_status 5 wait_bg migrator
tail -n 1 "$tmp/migrator.log" | grep -q 'not known'
wait_bg guest || fail "the guest ended with exit status $?"
# What the migrator advises to do.
[ "$(status_of "$dir" .owner)" = destination ]
verify_final guest "$(uri destination)" > "$tmp/verdict"
end_bg destination

echo "-- recording takes longer than the pause may"
begin CRASH_GO="$tmp/go"
finish_armed --max-pause=100ms
wait_for has_line '^1 '
sleep 0.3 # the deadline passes: that is the event
is_running "${pids[migrator]}" || fail "the migrator did not wait"
touch "$tmp/go"
wait_bg migrator || fail "the migrator ended with exit status $?"
served_from destination

echo "-- the migrator dies meanwhile"
begin CRASH_GO="$tmp/go"
finish_armed --max-pause=100ms
wait_for has_line '^1 '
crash_bg migrator
sleep 0.3
touch "$tmp/go"
served_from destination
