#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The file system of migrate-dir is slow: while a record is being written, at the
# beginning of a migration and in its pause, new guests are let in.  A stop ends
# the requests that wait at the gate just then; nbdkit itself ends when the record
# is written.  And what it takes is a part of the pause, which may not be longer than
# is allowed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

size=$((1024 * 1024))
dir=$tmp/proxy.dir

# start_slow [OPTION...]: once the file "arm" is there the next step on the state file waits
# for the file "go".
start_slow ()
{
  [ -z "${pids[proxy]:-}" ] || end_bg proxy
  rm -f "$tmp/arm" "$tmp/go" "$tmp/steps"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$dir CRASH_HOW=hang \
    CRASH_ARM=$tmp/arm CRASH_GO=$tmp/go CRASH_AT=1 CRASH_LOG=$tmp/steps \
    start_proxy proxy "$@" memory $size
}

# A step is waiting.
new_guest ()
{
  wait_for is_file "$tmp/steps"
  timeout 15 nbdinfo --size "$(uri proxy)" > "$tmp/size" ||
    fail "a new guest is not let in"
}

# in_the_pause [OPTION...]: the new owner is being recorded.
in_the_pause ()
{
  start_slow "$@"
  start_migrate --wait --max-pause=4s "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  touch "$tmp/arm"
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  wait_for is_file "$tmp/steps"
}

start_nbdkit destination memory $size

echo "-- when a migration begins"
start_slow
nbdinfo --size "$(uri proxy)" > "$tmp/size"
touch "$tmp/arm"
start_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
new_guest
touch "$tmp/go"
wait_bg migrator || fail "it failed: $(cat "$tmp/migrator.log")"

# What nbdkit has not read when it is stopped it does not answer.
echo "-- nbdkit is stopped while a guest waits at the gate"
in_the_pause -v
start_bg guest "$referee" run --uri "$(uri proxy)" --log "$tmp/guest.record" \
  --initial any --kinds w --depth 1 --ops 1 --expect-shutdown
wait_for grep -q 'migrate: pwrite count' "$tmp/proxy.log"
kill_bg proxy TERM
wait_bg guest || fail "its write does not end: exit status $?"
is_running "${pids[proxy]}" || fail "nbdkit did not wait for its record"
touch "$tmp/go"
wait_bg proxy || fail "nbdkit ended with exit status $?"
wait_bg migrator || :

echo "-- in the pause"
rm -rf "$dir"
in_the_pause
new_guest
touch "$tmp/go"
wait_bg migrator || fail "it failed: $(cat "$tmp/migrator.log")"

# Writing and syncing two slots: four steps, and more of them when the file is new.
echo "-- a record that takes longer than the pause may"
[ -z "${pids[proxy]:-}" ] || end_bg proxy
rm -rf "$dir" "$tmp/steps"
LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$dir CRASH_HOW=slow \
  CRASH_AT=1 CRASH_TO=1000 CRASH_LOG=$tmp/steps start_proxy proxy memory $size
expect_status 4 migrate --max-pause=300ms "$(uri proxy)" "$(uri destination)"
grep -q 'recording the owner [1-9]' "$tmp/migrate.log" ||
  fail "it does not say why: $(cat "$tmp/migrate.log")"
[ "$(event 'map(select(.event == "pause")) | length')" -eq 0 ] ||
  fail "it tried the pause"
must_have_status "$(uri proxy)" '.owner == "source" and .record_us >= 400000'
must_migrate --max-pause=4s "$(uri proxy)" "$(uri destination)"
must_have_status "$(uri proxy)" '.owner == "destination"'

echo "-- nothing is recorded where the disk stays"
end_bg proxy
rm -rf "$dir"
LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$dir CRASH_HOW=slow \
  CRASH_AT=1 CRASH_TO=1000 start_proxy proxy memory $size
must_migrate --max-pause=300ms --finish=detach "$(uri proxy)" "$(uri destination)"
end_bg proxy
