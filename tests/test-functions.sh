#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What tests/functions.sh says of programs in the background: one of a name at a time, or
# nobody would end the one before.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"

# is_refused NAME: a second one, which ends the test; so in a process of its own.
is_refused ()
{
  ! (start_bg "$1" true) 2> "$tmp/said" || fail "a second $1 was started"
  grep -qx "FAILED: $1 is running already" "$tmp/said" || fail "said was: $(cat "$tmp/said")"
}

echo "-- a name that is running is refused, and goes on"
start_bg one sh -c 'echo here; exec sleep 1000'
first=${pids[one]}
wait_for is_file "$tmp/one.out"
is_refused one
is_child "$first" || fail "the first one has ended"
grep -qx here "$tmp/one.out" || fail "what the first one said is gone"

echo "-- also one that is stopped"
! is_stopped one || fail "it is not stopped yet"
kill_bg one STOP
is_stopped one || fail "it goes on after SIGSTOP"
is_refused one
kill_bg one CONT

echo "-- another name is another one"
start_bg two sleep 1000

echo "-- one that was ended, or has ended by itself, can be started again"
end_bg one
start_bg one sleep 1000
crash_bg one
start_bg one true
wait_for is_no_child "${pids[one]}"
start_bg one sleep 1000
[ "${pids[one]}" != "$first" ] && is_child "${pids[one]}"
