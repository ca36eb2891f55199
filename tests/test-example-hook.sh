#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/hook/freeze.sh, with a guest agent made up: frozen once and thawed once
# around the pause, and not later, when somebody else may have frozen it; and if
# nbdmigrate is killed between the two, by the watchman.  Who comes after the watchman
# thaws nothing, nor does who has frozen nothing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq setsid flock

size=$((2 * 1024 * 1024))
start_proxy proxy memory $size
start_nbdkit destination memory $size
S=$(uri proxy) D=$(uri destination)
fill "$S" 100

mkdir "$tmp/bin" "$tmp/run"
cat > "$tmp/bin/virsh" <<END
#!/bin/sh
echo "\$2" >> "$tmp/log"
[ "\$2" = domfsfreeze ] || exit 0
while [ -e "$tmp/waits" ]; do sleep 0.05; done
END
chmod +x "$tmp/bin/virsh"
export PATH=$tmp/bin:$PATH XDG_RUNTIME_DIR=$tmp/run GUEST=vm1
hook=$SRCDIR/examples/hook/freeze.sh

# lines EXPECTED: what the agent was asked for.
lines ()
{
  [ "$(tr '\n' ' ' < "$tmp/log")" = "$1 " ] || fail "it was: $(cat "$tmp/log")"
}

agent_was_asked ()
{
  local n

  n=$(grep -c . "$tmp/log" 2> /dev/null) || :
  ((${n:-0} >= $1))
}

echo "-- frozen and thawed, and once"
export THAW_AFTER=8
must_migrate --finish=detach --hook="$hook" "$S" "$D"
lines "domfsfreeze domfsthaw"
sleep 9 # the watchman would be here
lines "domfsfreeze domfsthaw"
unset THAW_AFTER

echo "-- nbdmigrate is killed"
rm "$tmp/log"
: > "$tmp/waits"
start_migrate --finish=detach --hook="$hook" "$S" "$D"
wait_for is_file "$tmp/log"
crash_bg migrator
wait_for agent_was_asked 2
lines "domfsfreeze domfsthaw"

# The freeze that was under way meanwhile ends after that thaw.
rm "$tmp/waits"
wait_for agent_was_asked 3
lines "domfsfreeze domfsthaw domfsthaw"
end_bg proxy

# The calls that nbdmigrate makes, with this shell in its place.
echo "-- the watchman has thawed when it is run after the pause"
rm "$tmp/log"
THAW_AFTER=1 "$hook" before
wait_for agent_was_asked 2
lines "domfsfreeze domfsthaw"
"$hook" after 2> "$tmp/said" || fail "it fails after the watchman"
lines "domfsfreeze domfsthaw"
grep -q 'thawed already' "$tmp/said"

# The one that watches may hold it for a moment longer.
is_free ()
{
  flock --nonblock "$1" true
}

echo "-- two at once"
rm "$tmp/log"
lock=$(echo "$XDG_RUNTIME_DIR"/*.lock)
wait_for is_free "$lock"
"$hook" before
# shellcheck disable=SC2016 # of that shell
expect_status 1 bash -c '"$0" before; status=$?; "$0" after; exit $status' "$hook" \
  2> "$tmp/said"
grep -q 'vm1 is frozen by another nbdmigrate' "$tmp/said" || fail "$(cat "$tmp/said")"
lines "domfsfreeze"
"$hook" after
lines "domfsfreeze domfsthaw"
wait_for is_free "$lock"
"$hook" before
"$hook" after
lines "domfsfreeze domfsthaw domfsfreeze domfsthaw"

echo "-- a file system that somebody else has frozen"
rm "$tmp/log"
cat > "$tmp/bin/fsfreeze" <<END
#!/bin/sh
echo "\$1" >> "$tmp/log"
[ "\$1" = --unfreeze ]
END
chmod +x "$tmp/bin/fsfreeze"
unset GUEST
export MOUNTPOINT=$tmp
expect_status 1 "$hook" before
"$hook" after 2> "$tmp/said"
lines --freeze

echo "-- it cannot keep its notes"
rm "$tmp/log"
XDG_RUNTIME_DIR=$tmp/none expect_status 1 "$hook" before 2> "$tmp/said"
grep -q "$tmp/none cannot be written to: set XDG_RUNTIME_DIR" "$tmp/said" ||
  fail "$(cat "$tmp/said")"
[ ! -e "$tmp/log" ] || fail "something was asked: $(cat "$tmp/log")"

echo "-- nobody has said what to freeze"
unset MOUNTPOINT
for step in before after; do
  expect_status 1 "$hook" $step 2> "$tmp/said"
  grep -q 'set GUEST, AGENT or MOUNTPOINT' "$tmp/said" || fail "$(cat "$tmp/said")"
done
[ ! -e "$tmp/log" ] || fail "something was asked: $(cat "$tmp/log")"
left=$(find "$tmp/run" -name '*-freeze-*')
[ -z "$left" ] || fail "left behind: $left"
