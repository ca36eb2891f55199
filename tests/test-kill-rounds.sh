#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# After a pivot the proxy, the destination or both are killed, or the proxy is
# stopped while the destination is away, again and again, and started again.
# What was flushed is there in the end; what was only acknowledged is, too,
# unless both were killed.
#
#   ROUNDS=N   (default 4); 200 take about a quarter of an hour

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

rounds=${ROUNDS:-4}
size=$((4 * 1024 * 1024 + 512))
RANDOM=$((seed % 32768))

start_destination ()
{
  start_late destination volatile=1
}

start_the_proxy ()
{
  start_proxy proxy file "$tmp/source" migrate-reconnect=60s
}

# resume_guest ARGUMENT...: on the record so far.
resume_guest ()
{
  start_bg guest "$referee" run --uri "$(uri proxy)" --log "$tmp/guest.record" \
    --resume --depth 16 --rate 8M --expect-disconnect --expect-shutdown "$@"
}

# It has nobody to talk to any more.
guest_is_cut_off ()
{
  wait_bg guest || fail "the guest saw something wrong: exit status $?"
}

# Some writes are under way for a while, at a random time.
make_slow ()
{
  cue destination "write late ms=$((RANDOM % 200)) count=$((RANDOM % 8))" \
    "flush late ms=$((RANDOM % 100)) count=$((RANDOM % 2))"
  guest_goes_on guest $((1 + RANDOM % 150))
}

kill_destination ()
{
  crash_bg destination
  cue destination
  start_destination
}

kill_proxy ()
{
  local lost=()

  crash_bg proxy
  guest_is_cut_off
  # nbdkit before 1.34 may end when a client is killed with answers on their way.
  if ! is_child "${pids[destination]}"; then
    kill_destination
    lost=(--lost-cache)
  fi
  start_the_proxy
  resume_guest "${lost[@]}"
}

kill_both ()
{
  if ((RANDOM % 2)); then
    crash_bg proxy
    crash_bg destination
  else
    crash_bg destination
    crash_bg proxy
  fi
  guest_is_cut_off
  cue destination
  start_destination
  start_the_proxy
  resume_guest --lost-cache
}

# What was not flushed is kept in migrate-dir.
stop_proxy ()
{
  crash_bg destination
  end_bg proxy
  guest_is_cut_off
  cue destination
  start_destination
  start_the_proxy
  resume_guest
}

kinds=(kill_destination kill_proxy kill_both stop_proxy)
truncate -s $size "$tmp/source" "$tmp/destination.img"
start_the_proxy
start_destination
must_migrate "$(uri proxy)" "$(uri destination)"
: > "$tmp/guest.record"
start_guest guest "$(uri proxy)" --depth 16 --rate 8M --expect-disconnect \
  --expect-shutdown
for ((round = 1; round <= rounds; round++)); do
  kind=${kinds[(seed + round) % 4]}
  ((round <= 4)) || kind=${kinds[RANDOM % 4]}
  make_slow
  echo "round $round: $kind"
  "$kind"
  guest_goes_on guest 50
done
cue destination
stop_guest guest
verify_final guest "$(uri proxy)"
end_bg proxy
verify_final guest "$(uri destination)"
end_bg destination
