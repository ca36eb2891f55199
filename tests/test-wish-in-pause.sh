#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A wish that was accepted before the disk changes its owner counts, also in the
# pause: nothing is answered with success and then not done.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

truncate -s 1M "$tmp/source.img"
mkdir "$tmp/source.cue"
start_proxy proxy "$BUILD/tests/nbdkit-late-plugin.so" \
  file="$tmp/source.img" cue="$tmp/source.cue" migrate-max-gate=60s
start_nbdkit destination memory 1M
start_guest guest "$(uri proxy)" --rate 1M

# pause_with FINISH: the pause has begun, and waits for a write of the guest.
pause_with ()
{
  rm -f "$tmp/source.cue/go"
  : > "$tmp/source.cue/log"
  start_migrate --wait --max-pause=60s "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  cue source 'write hold until=go'
  wait_for late_has source 'came$'
  "$nbdmigrate" finish --no-wait "$(uri proxy)" "$1"
  wait_for has_status "$(uri proxy)" '.gate == "closed"'
}

# The write ends, and with it the waiting.
go_on ()
{
  cue source
  go source go
}

echo "-- another end"
pause_with pivot
"$nbdmigrate" finish --no-wait "$(uri proxy)" detach
go_on
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(completed finish)" = detach ] || fail "it ended by $(completed finish)"
must_have_status "$(uri proxy)" \
  '.owner == "source" and .last_end == "detached"'
guest_goes_on guest
verify_cut guest "$(uri destination)"

echo "-- another limit"
pause_with detach
"$nbdmigrate" set "$(uri proxy)" max-pause=50s rate=3M
go_on
wait_bg migrator || fail "the migrator ended with exit status $?"
grep -q 'the pause may now be 50' "$tmp/migrator.log" || fail "it was lost"
grep -q 'the rate is now 3' "$tmp/migrator.log" || fail "it was lost"
guest_goes_on guest

echo "-- none at all"
pause_with pivot
start_bg cancel "$nbdmigrate" cancel "$(uri proxy)"
wait_for has_status "$(uri proxy)" '.wishes.cancel or .session == false'
go_on
expect_status 3 wait_bg migrator
wait_bg cancel || fail "cancel ended with exit status $?"
must_have_status "$(uri proxy)" '.owner == "source" and .tracking == false'
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri proxy)"
end_bg proxy
