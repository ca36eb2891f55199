#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --window and --finish-at: in sync and no cut-over as long as the time has not come;
# at once where it has; and `finish` waits for neither.  A pause that has not begun when
# the time is over is called off.  (Clocks: unit/test-window.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((2 * 1024 * 1024))
start_proxy proxy memory $size
start_nbdkit destination memory $size
S=$(uri proxy) D=$(uri destination)
fill "$S" 100
start_guest guest "$S" --initial "$pattern" --rate 2M

# hours N: the clock in so many hours from now.
hours ()
{
  date -d "+$1 hours" +%H:00
}

echo "-- the time has come"
must_migrate --finish=detach --window=00:00-24:00 "$S" "$D"
verify_cut guest "$D"

for option in --window="$(hours 4)-$(hours 6)" --finish-at="$(hours 4)" \
              --finish-at="$(date -d '+9 days' +%F) 04:00"; do
  echo "-- it has not: $option"
  start_migrate --finish=detach "$option" "$S" "$D"
  wait_for is_ready
  guest_goes_on guest
  is_ready
  must_have_status "$S" '.progress.wait and .progress.finish_at > now'
  "$nbdmigrate" status "$S" | grep '^finish  *detach, not before'
  grep 'not cut over before 20' "$tmp/migrator.log"
  "$nbdmigrate" finish "$S"
  wait_bg migrator || fail "the migrator ended with exit status $?"
  verify_cut guest "$D"
done

echo "-- a finish that is refused changes nothing of that"
start_nbdkit one --filter=limit memory $size limit=1
start_migrate --finish=detach --finish-at="$(hours 4)" --connections=1 "$S" "$(uri one)"
wait_for is_ready
expect_status 1 "$nbdmigrate" finish "$S" pivot
grep -q 'cannot finish .* by pivot' "$tmp/migrator.log"
wait_for has_status "$S" '.progress.wait and .progress.finish_at > now'
"$nbdmigrate" finish "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
verify_cut guest "$(uri one)"
stop_guest guest

# The clock goes on for two hours while the hook before the pause runs.
echo "-- the time is over when the hook has run"
cat > "$tmp/hook" <<END
#!/bin/sh
echo "\$1" >> "$tmp/hooks"
[ "\$1" = before ] || exit 0
[ -e "$tmp/ahead" ] || echo 7200 > "$tmp/ahead"
END
chmod +x "$tmp/hook"
start_bg migrator env LD_PRELOAD="${LD_PRELOAD:-}:$BUILD/tests/wall-clock-preload.so" \
  WALL_CLOCK="$tmp/ahead" "$nbdmigrate" --json "${slow[@]}" --finish=detach \
  --hook="$tmp/hook" --window="$(hours -1)-$(hours 2)" "$S" "$D"
ln -sf migrator.out "$tmp/events"
wait_for grep -q '^after' "$tmp/hooks"
wait_for is_ready
! has_event pause || fail "it was cut over outside of the window"
grep -q 'the time to cut over is over: the pause is called off' "$tmp/migrator.log"

echo "-- and it comes again"
echo 0 > "$tmp/ahead"
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(tr '\n' ' ' < "$tmp/hooks")" = "before after before after " ]
same_content "$S" "$D"
end_bg proxy
