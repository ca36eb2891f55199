#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Clients of the control socket that send garbage, endless or huge lines, come
# in hundreds, do nothing, or command what is not theirs: they are refused or
# dropped, and neither the guest nor a migration under way notices.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

start_proxy proxy memory 16M
start_nbdkit destination memory 16M
fill "$(uri proxy)" 100
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 2M
start_migrate --finish=detach --rate=4M --max-pause=5s --wait "$(uri proxy)" \
  "$(uri destination)"
wait_for has_event progress

# raw FORMAT [ARGUMENT]: that text to the socket; what came back, without the
# greeting, in $tmp/raw.out.  The server must close the connection.
raw ()
{
  # shellcheck disable=SC2059
  [ $# -eq 0 ] || printf "$@" > "$tmp/raw.in"
  timeout 20 "$BUILD/tests/control" "$tmp/proxy.dir/control" --raw \
    < "$tmp/raw.in" > "$tmp/raw.all" ||
    fail "the server does not close the connection"
  head -n 1 "$tmp/raw.all" | jq -e '.nbdmigrate.protocol == 1' > "$tmp/jq.out"
  tail -n +2 "$tmp/raw.all" > "$tmp/raw.out"
}

class_is ()
{
  tail -n 1 "$tmp/raw.out" | jq -e ".error.class == \"$1\"" > "$tmp/jq.out" ||
    fail "not refused as $1: $(tail -n 1 "$tmp/raw.out" | head -c 500)"
}

echo "-- garbage"
head -c 100000 /dev/urandom > "$tmp/raw.in"
raw
for text in 'hello' '[]' '{}' '{"execute": 5}' '{"execute": "status"' 'null' \
            '{"execute": "status", "execute": "abort"}x'; do
  raw '%s\n' "$text"
  class_is Protocol
done
raw '{"execute": "status"}\0{"execute": "status"}\n'

echo "-- lines that are too long, with an end and without one"
raw '{"execute": "%02000000d"}\n' 0
class_is Protocol
raw '%03000000d' 0
class_is Protocol
head -c 900000 /dev/zero | tr '\0' '[' > "$tmp/raw.in"
echo >> "$tmp/raw.in"
raw
class_is Protocol

echo "-- unknown commands and bad arguments, on one connection"
start_talker proxy
refused_as ()
{
  local class=$1

  shift
  ask "$@"
  [ "$(answered .error.class)" = "$class" ] || fail "$*: $answer"
  [ -n "$(answered .error.desc)" ] || fail "$*: no description"
}
refused_as CommandNotFound explode
refused_as NotAttached status
refused_as ExportNotFound attach '{"export": "no such export"}'
refused_as BadArgument attach '{"export": 5}'
talk attach '{"export": "", "unknown member": [1, 2, 3]}'
refused_as SessionBusy begin '{"destination": "nbd://localhost/"}'
for command in "take" "done" failed flush-begin flush-end compare compared \
               hold release mirror throttle prepare commit rollback publish \
               lost end; do
  refused_as NoSession $command '{}'
done
refused_as BadArgument wish '{"rate": -1}'
refused_as BadArgument wish '{"rate": "fast"}'
refused_as BadArgument wish '{"finish": "never"}'
refused_as BadArgument wish '{"converge": "soon"}'
refused_as BadArgument wish '{"background": 101}'
talk status
[ "$(answered .return.session)" = true ]
stop_talker

echo "-- hundreds of connections"
for i in 1 2 3 4; do
  start_bg "idle$i" "$BUILD/tests/control" "$tmp/proxy.dir/control" --idle 150
done
for i in 1 2 3 4; do
  wait_for is_file "$tmp/idle$i.out"
done
"$nbdmigrate" status "$(uri proxy)" > "$tmp/status"
guest_goes_on guest
for i in 1 2 3 4; do
  end_bg "idle$i"
done

echo "-- descriptors are hoarded: who hoards them pays"
start_bg hoarders "$BUILD/tests/control" "$tmp/proxy.dir/control" --hoard 2
wait_for is_file "$tmp/hoarders.out"
start_talker proxy
talk attach
refused_as SessionBusy begin '{"destination": "nbd://localhost/"}'
talk status
stop_talker
start_bg more "$BUILD/tests/control" "$tmp/proxy.dir/control" --hoard 5
wait_bg hoarders || fail "they are served although they hoard"
end_bg more

echo "-- the migration ends well"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "the migration ended with exit status $?"
verify_cut guest "$(uri destination)"
stop_guest guest
verify_final guest "$(uri proxy)"
