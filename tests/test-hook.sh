#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# --hook runs before the gate is shut and after it is open.  If it fails or hangs
# before, that pause is called off, it is run afterwards all the same, and the next
# attempt succeeds.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq perl

size=$((2 * 1024 * 1024))
start_proxy proxy memory $size
start_nbdkit destination memory $size
S=$(uri proxy) D=$(uri destination)
fill "$S" 100

# hook BODY: what it does "before" the first time; later it does nothing.
hook ()
{
  rm -f "$tmp/log" "$tmp/been"
  cat > "$tmp/hook" <<END
#!/bin/sh
echo "\$*" >> "$tmp/log"
echo "this is not JSON"
"$nbdmigrate" status --json "$tmp/proxy.dir" > "$tmp/status.\$1"
[ "\$1" = before ] || exit 0
[ ! -e "$tmp/been" ] || exit 0
touch "$tmp/been"
$1
END
  chmod +x "$tmp/hook"
}

# hooks EXPECTED: the events.
hooks ()
{
  [ "$(event 'map(select(.event == "hook" or .event == "pause") |
         if .event == "hook" then .step + (if .succeeded then "" else "!" end)
         else .result end) | join (" ")')" = "$1" ] ||
    fail "it was: $(event 'map(select(.event == "hook" or .event == "pause"))')"
}

echo "-- it succeeds"
hook true
must_migrate --finish=detach --hook="$tmp/hook" "$S" "$D"
hooks "before committed after"
printf '%s\n' "before $S" "after $S" | cmp - "$tmp/log"
for step in before after; do
  jq -e '.gate == "open" and .session' "$tmp/status.$step" > "$tmp/jq.out" ||
    fail "the gate, $step: $(cat "$tmp/status.$step")"
done
[ "$(jq -r .last_end "$tmp/status.after")" = detached ]

echo "-- it fails"
hook 'exit 7'
must_migrate --finish=detach --hook="$tmp/hook" "$S" "$D"
hooks "before! after before committed after"
grep -q 'the hook .* before failed with exit status 7' "$tmp/migrate.log"

echo "-- it hangs, with a child"
hook 'sleep 1000'
must_migrate --finish=detach --hook="$tmp/hook" --hook-timeout=1s "$S" "$D"
hooks "before! after before committed after"
grep -q 'has not ended within 1.0 s, and was killed' "$tmp/migrate.log"
same_content "$S" "$D"

echo "-- the copying is paused meanwhile"
hook "'$nbdmigrate' pause '$tmp/proxy.dir'
until '$nbdmigrate' status '$tmp/proxy.dir' | grep -q '^progress .*paused'; do
  sleep 0.05
done
'$referee' pattern --uri '$S' --seed 1 --density 100"
start_migrate --finish=detach --hook="$tmp/hook" "$S" "$D"
wait_for is_file "$tmp/log"
wait_for grep -q '^after' "$tmp/log"
wait_for has_status "$S" .progress.paused
"$nbdmigrate" resume "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
hooks "before after before committed after"

echo "-- the copying is paused while the destination is silent before it"
hook true
start_migrate --wait --finish=detach --hook="$tmp/hook" "$S" "$D"
wait_for has_status "$S" '.progress.phase == "ready"'
kill_bg destination STOP
"$nbdmigrate" finish --no-wait "$S"
wait_for grep -q 'has answered nothing for' "$tmp/migrator.log"
"$nbdmigrate" pause "$S"
wait_for has_status "$S" .progress.paused
kill_bg destination CONT
wait_for grep -q 'answers again' "$tmp/migrator.log"
"$nbdmigrate" resume "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
[ "$(event 'map(select(.event == "paused" or .event == "resumed" or
       .event == "hook") | .step // .event) | join (" ")')" = \
  "paused resumed before after" ] ||
  fail "it was: $(event 'map(select(.event == "hook" or .event == "paused"))')"

# Nobody can end it: it has left its process group.
echo "-- it hangs, and cannot be killed"
cat > "$tmp/leaves" <<'END'
setpgrp 0, getpgrp getppid;
open my $pid, ">", shift;
print $pid "$$\n";
close $pid;
sleep 100;
END
hook "exec perl '$tmp/leaves' '$tmp/leaves.pid'"
must_migrate --finish=detach --hook="$tmp/hook" --hook-timeout=1s "$S" "$D"
kill -KILL "$(cat "$tmp/leaves.pid")"
hooks "before! after before committed after"
grep -q 'the hook .* before has not ended for that' "$tmp/migrate.log"
same_content "$S" "$D"

# What is written then waits for the destination.
echo "-- the destination hangs, and no guest stays frozen for that"
truncate -s $size "$tmp/late.img"
start_late late
hook "touch '$tmp/frozen'; while [ -e '$tmp/frozen' ]; do sleep 0.05; done"
start_migrate --finish=detach --hook="$tmp/hook" --hook-timeout=2s "$S" "$(uri late)"
wait_for is_file "$tmp/log"
cue late 'write hold until=go'
fill "$S" 50
wait_for late_has late 'came$'
rm "$tmp/frozen"
wait_for grep -q '^after' "$tmp/log"
grep -q 'the pause has not begun within 2.0 s' "$tmp/migrator.log"
cue late
go late go
wait_bg migrator || fail "the migrator ended with exit status $?"
hooks "before after before committed after"
same_content "$S" "$(uri late)"

twice ()
{
  kill_bg migrator INT
  wait_for grep -q 'interrupted by SIGINT' "$tmp/migrator.log"
  kill_bg migrator INT
}

echo "-- a second Ctrl-C while it runs before the pause"
hook "echo \$\$ > '$tmp/pid'; sleep 1000"
start_migrate --finish=detach --hook="$tmp/hook" --hook-timeout=1h "$S" "$D"
wait_for is_file "$tmp/pid"
twice
expect_status 3 wait_bg migrator
wait_for grep -q '^after' "$tmp/log"
wait_for has_ended "$(cat "$tmp/pid")"

echo "-- SIGTERM while it runs before the pause, and takes its time"
hook "echo \$\$ > '$tmp/pid'; sleep 1000"
rm -f "$tmp/pid"
start_migrate --finish=detach --hook="$tmp/hook" --hook-timeout=1h "$S" "$D"
wait_for is_file "$tmp/pid"
kill_bg migrator TERM
expect_status 3 wait_bg migrator
hooks "before! after"
grep -q 'the hook .* before was killed, since that pause is called off' \
  "$tmp/migrator.log"
has_ended "$(cat "$tmp/pid")" || fail "it still runs"

# The outcome is known by then.
echo "-- and after it"
cat > "$tmp/hook" <<END
#!/bin/sh
[ \$1 = after ] || exit 0
touch "$tmp/frozen"
while [ -e "$tmp/frozen" ]; do sleep 0.05; done
END
start_migrate --finish=detach --hook="$tmp/hook" --hook-timeout=1h "$S" "$D"
wait_for test -e "$tmp/frozen"
twice
expect_status 0 wait_bg migrator
rm "$tmp/frozen"
grep -q "the source $S is authoritative; $D holds" "$tmp/migrator.log"
same_content "$S" "$D"

# Guests may stand still until it is run afterwards, so that is not waited for.
echo "-- the destination is silent after it"
hook "kill -STOP ${pids[destination]}
while grep -qv '^[0-9]* (.*) T ' /proc/${pids[destination]}/task/*/stat; do
  sleep 0.05
done"
start_migrate --hook="$tmp/hook" --hook-timeout=2s "$S" "$D"
wait_for grep -q 'does not answer: the pause is called off' "$tmp/migrator.log"
wait_for grep -q '^after' "$tmp/log"
[ "$(status .owner)" = source ]
kill_bg destination CONT
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
[ "$(status .owner)" = destination ]
end_bg proxy
