#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Row 11 of the fault table: nbdmigrate is stopped in the middle of the copy and of
# the pause.  The guest waits no longer than the pause may last, the session ends after
# ten seconds of silence (time runs faster here), and what the stopped one does when it
# goes on again does no harm.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((1024 * 1024 + 512))
preload=${LD_PRELOAD:-}:$BUILD/tests/at-command-preload.so
export HURRY=20 HURRY_ARM=$tmp/hurry
truncate -s $size "$tmp/source.img" "$tmp/destination.img"
LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/hurry-preload.so \
  start_proxy proxy file "$tmp/source.img"
start_nbdkit destination file "$tmp/destination.img"
fill "$(uri proxy)" 90 > "$tmp/fill.out"
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 4M --kinds rwWf

for step in "take 1" "flush-begin 1" "hold 2"; do
  read -r name count <<< "$step"
  AT_COMMAND=$name AT_COUNT=$count AT_SIGNAL=$(kill -l STOP) AT_WHEN=after \
    LD_PRELOAD=$preload start_migrate --max-pause=3s \
    "$(uri proxy)" "$(uri destination)"
  wait_for is_stopped migrator
  touch "$HURRY_ARM"
  guest_goes_on guest
  wait_for has_status "$(uri proxy)" '.session == false'
  rm "$HURRY_ARM"
  must_have_status "$(uri proxy)" '.gate == "open" and .owner == "source"'
  # The next one does not wait for it to be gone.
  must_migrate --finish=detach --max-pause=3s "$(uri proxy)" "$(uri destination)"
  kill_bg migrator CONT
  expect_status 1 wait_bg migrator
  echo "stopped after $step: $(grep -o 'this process stood still for.*' "$tmp/migrator.log")"
  tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative'
  guest_goes_on guest
done
must_migrate --max-pause=3s "$(uri proxy)" "$(uri destination)"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri proxy)"
end_bg proxy
verify_final guest "$(uri destination)"
