#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# From other terminals: `wait` and `finish` return when it is so, with the exit
# status that tells how it ended; `list` knows all proxies that one may talk to;
# `status --watch` goes on by itself.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd python3

size=$((8 * 1024 * 1024))
start_proxy proxy memory $size
start_proxy other memory $size
start_nbdkit destination memory $size
start_nbdkit single --filter=limit memory $size limit=1
S=$(uri proxy) D=$(uri destination)
fill "$S" 100

# listed NAME: its line, whatever other proxies there are.
listed ()
{
  "$nbdmigrate" list | grep -F "$tmp/$1.dir" || :
}

# ends STATUS TEXT COMMAND...
ends ()
{
  local status=$1 text=$2

  shift 2
  expect_status "$status" "$nbdmigrate" "$@" 2> "$tmp/said"
  grep -qF -- "$text" "$tmp/said" || fail "not said: $text; $(cat "$tmp/said")"
}

copies ()
{
  [ "$(status .progress.phase)" = bulk ]
}

# start_waiting ARGUMENT...: returns when it does.
start_waiting ()
{
  start_bg waiting "$nbdmigrate" wait "$@"
  wait_for grep -q '^nbdmigrate: waiting' "$tmp/waiting.log"
}

echo "-- none is running"
ends 1 'no migration' wait "$S"
ends 1 'no migration' wait "$S" ready
nbdinfo --size "$(uri other)"
[[ $(listed proxy) == "8.0 MiB "*none*"at local image" ]] || fail "$(listed proxy)"
[[ $(listed other) == "8.0 MiB "*none* ]] || fail "$(listed other)"
"$nbdmigrate" list --json | jq -es "any (.dir == \"$tmp/other.dir\" and
  .owner == \"source\" and .disk_bytes == $size)" > "$tmp/jq.out"
kill_bg other STOP
[[ $(listed other) == *"not answering"* ]] || fail "stopped: $(listed other)"
[[ $(listed proxy) == "8.0 MiB "* ]] || fail "beside it: $(listed proxy)"
"$nbdmigrate" list --json | jq -es "any (.dir == \"$tmp/other.dir\" and
  .proxy == \"not answering\" and .owner == null)" > "$tmp/jq.out"
kill_bg other CONT

echo "-- ready, and not done"
start_migrate --wait --finish=detach --connections=1 "$S" "$(uri single)"
wait_for has_event started
"$nbdmigrate" wait "$S" ready
is_ready
[[ $(listed proxy) == *ready*"to $(uri single)" ]] || fail "$(listed proxy)"
ends 4 'not done after 200 ms' wait --timeout=200ms "$S"
ends 1 'cannot end so' finish --timeout=20s "$S" pivot
grep -q 'cannot finish .* by pivot' "$tmp/migrator.log"
is_ready

# It takes ten seconds until the proxy knows that it is not let in.
echo "-- not refused before that is known"
truncate -s $size "$tmp/one.img"
start_qemu_nbd one -f raw "$tmp/one.img"
"$nbdmigrate" cancel "$S"
expect_status 3 wait_bg migrator
start_migrate --wait --finish=detach --connections=1 "$S" "$(uri one)"
wait_for is_ready
ends 1 'cannot end so' finish "$S" pivot
grep -q 'cannot finish .* by pivot' "$tmp/migrator.log"
"$nbdmigrate" finish "$S"
wait_bg migrator || fail "the migrator ended with exit status $?"
start_migrate --wait --finish=detach --connections=1 "$S" "$(uri single)"
wait_for is_ready

echo "-- watched"
start_bg watch "$nbdmigrate" status --watch=50ms "$S"
start_bg watch-json "$nbdmigrate" status --json --watch=50ms "$tmp/proxy.dir"
watched ()
{
  [ "$(grep -c '^progress .*ready' "$tmp/watch.out")" -ge 3 ] &&
    [ "$(grep -c '"phase": "ready"' "$tmp/watch-json.out")" -ge 3 ]
}
wait_for watched
end_bg watch
end_bg watch-json

echo "-- done"
start_waiting "$tmp/proxy.dir" "done"
"$nbdmigrate" finish "$S"
must_have_status "$S" '.session == false and .last_end == "detached"'
wait_bg waiting || fail "wait: exit status $?"
wait_bg migrator || fail "the migrator ended with exit status $?"

echo "-- cancelled, and interrupted"
start_migrate --rate=64K "$S" "$D"
wait_for copies
[[ $(listed proxy) == *"bulk "*%*"to $D" ]] || fail "$(listed proxy)"
start_waiting "$S"
"$nbdmigrate" cancel "$S"
expect_status 3 wait_bg waiting
grep -q 'was cancelled' "$tmp/waiting.log"
expect_status 3 wait_bg migrator
start_migrate --rate=64K "$S" "$D"
wait_for copies
start_waiting "$S" ready
kill_bg migrator TERM
expect_status 3 wait_bg migrator
expect_status 1 wait_bg waiting
grep -q 'ended without a cut-over' "$tmp/waiting.log"

# Anybody may serve a socket of that name, in a directory of any name.
echo "-- a list with what is no proxy"
start_bg stranger python3 -c '
import os, socket, sys, threading

def serve(name, answer):
  d = os.path.join(os.fsencode(sys.argv[1]), name)
  os.mkdir(d)
  open(d + b"/lock", "w").close()
  s = socket.socket(socket.AF_UNIX)
  s.bind(d + b"/control")
  s.listen()
  while True:
    c = s.accept()[0]
    c.sendall(b"""{"nbdmigrate": {"protocol": 1, "exports": [1, "x"]}}\n""")
    while c.recv(4096):
      c.sendall(answer)
    c.close()

for name, answer in ((b"\xff", b"{}"), (b"number", b"""{"return": 1}"""),
                     (b"\x1b", b"""{"return": {"session": true,
                                   "destination": "a\\u001bb\\u009bc"}}""")):
  threading.Thread(target=serve, args=(name, answer.replace(b"\n", b"") + b"\n")).start()
' "$tmp"
is_listed ()
{
  "$nbdmigrate" list > "$tmp/list" && grep -q "^0 B  *starting  *$tmp/?  to a?b??c\$" "$tmp/list"
}
wait_for is_listed
"$nbdmigrate" list --json | jq -es "any (.dir == \"$tmp/proxy.dir\")" > "$tmp/jq.out"
for name in number $'\e'; do
  status=0
  "$nbdmigrate" status "$tmp/$name" > "$tmp/said" 2>&1 || status=$?
  [ $status -le 1 ] || fail "status of a stranger's: $status: $(cat "$tmp/said")"
done
end_bg stranger

echo "-- pivoted"
must_migrate "$S" "$D"
[[ $(listed proxy) == *pivoted*"at $D" ]] || fail "$(listed proxy)"

# The end of the one before is not its own.
echo "-- one that did nothing"
start_migrate --connections=1 "$S" "$(uri one)"
wait_for has_status "$S" .session
ends 1 'ended without a cut-over' wait "$S"
expect_status 1 wait_bg migrator
must_have_status "$S" '.last_end == "pivoted" and .untouched'
end_bg proxy
