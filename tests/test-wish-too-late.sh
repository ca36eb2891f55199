#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A wish that comes when the commits have been sent is too late, and whoever
# wished is told so: the migration ends as it would have ended, nothing is
# announced that does not happen, and what took place is not forgotten.
# (test-wish-in-pause: those that are in time.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq

size=$((1024 * 1024))
S1=$(uri proxy1) S2=$(uri proxy2)
D1=$(uri destination1) D2=$(uri destination2)

is_ready ()
{
  has_status "$S1" '.progress.phase == "ready"'
}

refused_late ()
{
  expect_status 1 "$nbdmigrate" "$@" 2> "$tmp/said"
  grep -qF "too late: $2 is being cut over, or was" "$tmp/said" ||
    fail "not told that it is too late: $(cat "$tmp/said")"
}

# Returns when it knows that it is too late, and waits.
cancel_late ()
{
  start_bg cancel "$nbdmigrate" cancel "$S1"
  wait_for grep -q 'waiting for the end' "$tmp/cancel.log"
}

# Besides the wish that was in time.
nothing_announced ()
{
  ! grep -E 'cancelled by request|rate is now|by handover' \
      "$tmp/migrator.log" || fail "that did not happen"
}

# ---- several disks, one of which is still being recorded --------------------

# wish_late HOW [PARAMETER...]: as tests/preload/crash.c does it; the record goes
# on when the file "go" is there.
wish_late ()
{
  local i how=$1

  shift

  rm -rf "$tmp"/*.dir "$tmp/armed" "$tmp/go"
  for i in 1 2; do
    start_nbdkit destination$i memory $size
  done
  start_proxy proxy1 memory $size "$@"
  export LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy2.dir \
    CRASH_ARM=$tmp/armed CRASH_GO=$tmp/go CRASH_AT=1 CRASH_HOW=$how
  start_proxy proxy2 memory $size "$@"
  unset LD_PRELOAD "${!CRASH_@}"
  fill_all 50 "$S1" "$S2"
  start_migrate --wait --max-pause=4s "$S1" "$D1" "$S2" "$D2"
  wait_for is_ready
  touch "$tmp/armed"
  "$nbdmigrate" finish --no-wait "$S1"
  wait_for has_status "$S1" '.owner == "destination"'
  refused_late finish "$S1" handover
  refused_late set "$S1" rate=1M
  cancel_late
}

stop_all ()
{
  local name

  for name in proxy1 proxy2 destination1 destination2; do
    end_bg $name
  done
}

echo "-- all are cut over in spite of a cancel"
wish_late hang
touch "$tmp/go"
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
nothing_announced
[ "$(completed finish)" = pivot ]
expect_status 1 wait_bg cancel
grep -qF "too late to cancel: $S1 was pivoted" "$tmp/cancel.log"
for u in "$S1" "$S2"; do
  has_status "$u" '.owner == "destination" and .last_end == "pivoted"' ||
    fail "$u: $("$nbdmigrate" status --json "$u")"
done
same_content "$S1" "$D1"
same_content "$S2" "$D2"
stop_all

echo "-- none is, because of a record and not of the cancel"
# The cancel gives up on the migrator, and must leave the first disk to it.
wish_late fail migrate-max-gate=40s
expect_status 1 wait_bg cancel
grep -qF "too late to cancel: $S1 is being cut over" "$tmp/cancel.log"
touch "$tmp/go"
expect_status 1 wait_bg migrator
nothing_announced
grep -qF "cutting over $S2" "$tmp/migrator.log"
for u in "$S1" "$S2"; do
  has_status "$u" '.owner == "source" and .gate == "open"' ||
    fail "$u: $("$nbdmigrate" status --json "$u")"
done
stop_all

# ---- one disk, whose answer is on its way -----------------------------------

is_socket ()
{
  [ -S "$1" ]
}

echo "-- a detach in spite of a cancel is not forgotten"
rm -rf "$tmp/proxy1.dir" "$tmp/go"
start_nbdkit destination1 memory $size
start_proxy proxy1 memory $size
fill_all 50 "$S1"
start_bg later "$BUILD/tests/lose-answer" "$tmp/proxy1.dir/control" \
  "$tmp/later.sock" until "$tmp/go"
wait_for is_socket "$tmp/later.sock"
start_migrate --finish=detach --control="$tmp/later.sock" "$S1" "$D1"
wait_for has_status "$S1" '.last_end == "detached"'
start_talker proxy1
talk attach
ask wish '{"cancel": true}'
[ "$(answered .error.class)" = Committing ] || fail "a wish: $answer"
stop_talker
refused_late finish "$S1" pivot
cancel_late
touch "$tmp/go"
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
expect_status 1 wait_bg cancel
grep -qF "too late to cancel: $S1 was detached to $D1" "$tmp/cancel.log" ||
  fail "it does not say that it came too late"
nothing_announced
has_status "$S1" '.last_end == "detached" and .tracking' ||
  fail "the detach is forgotten: $("$nbdmigrate" status --json "$S1")"
same_content "$S1" "$D1"
