#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A flush never lies (R13), not to a guest either that connects again: after a
# pivot the destination loses acknowledged writes and cannot get them back, and
# nobody asks just then.  The next flush fails, whoever asks for it: a connection
# that was there, one that begins later, one after a restart of the proxy.  Once
# somebody was told, those that come later are not.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/told-guest.sh
source "$SRCDIR/tests/told-guest.sh"

size=$((1024 * 1024))

start_lossy ()
{
  start_nbdkit destination "$lossy" file="$tmp/disk" "$@"
}

start_it ()
{
  start_proxy proxy memory $size
}

# lost_times N
lost_times ()
{
  has_status "$(uri proxy)" ".relay.up and .relay.losses == $1"
}

# guest COMMAND...: one that connects now; its answers are in $answers.
guest ()
{
  answers=$(printf '%s\n' "$@" |
              "${told_guest[@]}" "$(uri proxy)" | paste -sd ,)
}

# lose: what is written and not flushed cannot be got back.
lose ()
{
  local times

  times=$(status .relay.losses)
  crash_bg destination
  start_lossy fail-flush=1 # of what is sent again
  wait_for lost_times $((times + 1))
}

expect ()
{
  [ "$answers" = "$2" ] || fail "$1: $answers instead of $2"
}

truncate -s $size "$tmp/disk"
start_lossy
start_it
must_migrate "$(uri proxy)" "$(uri destination)"

echo "-- one that was there, and those that come later"
mkfifo "$tmp/old.in" "$tmp/old.answers"
"${told_guest[@]}" "$(uri proxy)" < "$tmp/old.in" \
  > "$tmp/old.answers" &
old=$!
exec {to}> "$tmp/old.in" {from}< "$tmp/old.answers"
# of_old COMMAND ANSWER
of_old ()
{
  echo "$1" >&"$to"
  read -r answers <&"$from"
  expect "the old one, $1" "$2"
}
of_old flush ok
of_old write ok
lose
guest flush flush
expect "a new one" "$failed,ok"
guest flush
expect "the next one" "ok"
of_old flush "$failed"
of_old flush ok

echo "-- the other way round"
of_old write ok
lose
of_old flush "$failed"
guest flush
expect "a new one after the old one was told" "ok"
of_old flush ok

echo "-- after a restart, if nobody was told"
of_old write ok
echo end >&"$to" # others hold the fifo open, too
exec {to}>&- {from}<&-
wait $old
lose
end_bg proxy
start_it
guest flush flush
expect "after a restart" "$failed,ok"
guest flush
expect "after that" "ok"
end_bg proxy
start_it
guest flush
expect "after another restart" "ok"

echo "-- killed"
guest write
expect "a write" "ok"
lose
crash_bg proxy
start_it
guest flush flush
expect "after a kill" "$failed,ok"
guest flush # once it was told, and others go on
crash_bg proxy
start_it
guest flush
expect "after another kill" "ok"

[ "$(id -u)" -eq 0 ] && unshare -m true 2> "$tmp/unshare.log" || exit 0

echo "-- the file system of the state is full"
end_bg proxy
cp -a "$tmp/proxy.dir" "$tmp/copy"
mount -t tmpfs -o size=512k,mode=700 none "$tmp/proxy.dir"
at_end "umount '$tmp/proxy.dir'"
cp -a "$tmp/copy/." "$tmp/proxy.dir"
start_it
guest write
expect "a write" "ok"
dd if=/dev/zero of="$tmp/proxy.dir/filler" bs=4k 2> "$tmp/dd.log" || :
lose
end_bg proxy
start_it
guest flush flush
expect "after a restart" "$failed,ok"
end_bg proxy
