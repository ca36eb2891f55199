#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What cannot work is refused with one clear sentence that names the value, with
# exit status 2 for usage and 1 otherwise, and before one byte is written to
# the destination.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

wrong=0

complain ()
{
  echo "WRONG: $*" >&2
  sed 's/^/    /' "$tmp/said" >&2
  wrong=$((wrong + 1))
}

# check_words STATUS EXPECTED TEXT...: of what was said, all must be there.
check_words ()
{
  local status=$1 expected=$2 text

  shift 2
  [ "$status" -eq "$expected" ] ||
    complain "exit status $status instead of $expected"
  for text; do
    grep -qF -- "$text" "$tmp/said" || complain "this is not said: $text"
  done
}

# refused STATUS TEXT... -- ARGUMENT...: of nbdmigrate.
refused ()
{
  local expected=$1 status=0 words=()

  shift
  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  echo "-- nbdmigrate $*"
  timeout 20 "$nbdmigrate" "$@" > "$tmp/printed" 2> "$tmp/said" || status=$?
  sed 's/^/   /' "$tmp/said"
  check_words $status "$expected" "${words[@]}"
  [ ! -s "$tmp/printed" ] || complain "something was printed on stdout"
  # One sentence, and a line that says who is authoritative or where help is.
  [ "$(wc -l < "$tmp/said")" -le 2 ] || complain "that is too long"
  ! grep -q 'nbd_[a-z]*_' "$tmp/said" || complain "a function of libnbd is named"
}

# filter_refused TEXT... -- ARGUMENT...: of nbdkit.
filter_refused ()
{
  local status=0 words=()

  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  echo "-- nbdkit $*"
  rm -f "$tmp/bad.sock" # an earlier server of that name has left it
  timeout 20 nbdkit -f -U "$tmp/bad.sock" --filter="$filter" "$@" \
    > "$tmp/printed" 2> "$tmp/said" || status=$?
  sed 's/^/   /' "$tmp/said"
  check_words $status 1 "${words[@]}"
}

size=$((4 * 1024 * 1024))
tried=() # parameters of the filter
start_proxy proxy memory $size
start_nbdkit destination --filter=log memory $size \
  logfile="$tmp/destination.requests"
S=$(uri proxy) D=$(uri destination)

# -- usage
refused 2 SOURCE --
refused 2 DESTINATION "$S" -- "$S"
refused 2 there is no option --frobnicate -- --frobnicate "$S" "$D"
refused 2 --rate -- "$S" "$D" --rate
refused 2 --rate=12X -- --rate=12X "$S" "$D"
refused 2 'write 100M or 100MiB' -- --rate=100MB "$S" "$D"
refused 2 --rate=-5 -- --rate=-5 "$S" "$D"
refused 2 --rate=0.4 'less than a byte' -- --rate=0.4 "$S" "$D"
refused 2 rate=0.4K0 'not a size' -- set "$S" rate=0.4K0
refused 2 rate=0.0001K 'less than a byte' -- set "$S" rate=0.0001K
refused 2 --max-pause=300 -- --max-pause=300 "$S" "$D"
refused 2 --max-pause=0 -- --max-pause=0 "$S" "$D"
refused 2 --converge=never auto, mirror, throttle or off -- \
  --converge=never "$S" "$D"
refused 2 --max-pause-late=5 -- --max-pause-late=5 "$S" "$D"
refused 2 --max-pause-late 'must be longer' -- --max-pause-late=10ms "$S" "$D"
refused 2 --max-pause-late 'must be longer' -- --max-pause-late=300ms "$S" "$D"
refused 2 --patience=soon -- --patience=soon "$S" "$D"
refused 2 max-pause-late -- --patience=5s "$S" "$D"
refused 2 path of a socket -- --control= "$S" "$D"
refused 2 --throttle-floor=0 above 0 -- --throttle-floor=0 "$S" "$D"
refused 2 --throttle-floor=x -- --throttle-floor=x "$S" "$D"
refused 2 --policy=do explain -- --policy=do "$S" "$D"
refused 2 converge=off nothing -- --policy=explain --converge=off "$S" "$D"
refused 2 converge=none auto, mirror, throttle or off -- \
  set "$S" converge=none
refused 2 background=101 from 0 to 100 -- set "$S" background=101
refused 2 background is given twice -- set "$S" background=50 background=60
refused 2 'IPv6 address without brackets' "'nbd://[::1]:10809/'" -- \
  "$S" nbd://::1:10809/
refused 2 'a blank is %20' -- "$S" 'nbd://host/a b'
refused 2 SOURCE DESTINATION -- --check
refused 2 DESTINATION missing -- --check "$S"
refused 2 "'--check' takes no value" -- --check=yes "$S" "$D"
refused 1 'nowhere.sock' -- --check "$S" "nbd+unix:///?socket=$tmp/nowhere.sock"
refused 2 --timeout=5 'not a duration' -- --timeout=5 "$S" "$D"
refused 2 --timeout=0s 'above 0' -- --timeout=0s "$S" "$D"
refused 2 --progress-interval 'goes with --progress=log' -- --progress-interval=1s "$S" "$D"
refused 2 --progress-interval=x 'not a duration' -- --progress=log \
  --progress-interval=x "$S" "$D"
refused 2 --quiet --verbose contradict -- -q -v "$S" "$D"
refused 2 --quiet --progress contradict -- -q -p "$S" "$D"
refused 2 --quiet --progress contradict -- -q --progress=log "$S" "$D"
refused 2 --events --metrics same "$tmp/file" -- --events="$tmp/file" \
  --metrics="$tmp/file" "$S" "$D"
refused 1 /nowhere/file 'No such file' 'nothing was done' -- \
  --metrics=/nowhere/file "$S" "$D"
refused 1 /nowhere/file 'No such file' 'nothing was done' -- \
  --events=/nowhere/file "$S" "$D"
refused 1 /dev/null 'no regular file' -- --metrics=/dev/null "$S" "$D"
refused 2 --timeout '--finish-at' 'leave one of them out' -- --timeout=1m \
  --finish-at=2037-01-01T04:00 "$S" "$D"
refused 2 --timeout '--window' 'leave one of them out' -- --timeout=1m \
  --window="$(date -d '+3 hours' +%H:%M)-$(date -d '+5 hours' +%H:%M)" "$S" "$D"
refused 2 "there is no option '-x'" -- -x "$S" "$D"
refused 2 --window= 'a part of the day' -- --window= "$S" "$D"
refused 2 --window=22:00 'a part of the day' -- --window=22:00 "$S" "$D"
refused 2 --window=22:00-22:00 'a part of the day' -- --window=22:00-22:00 "$S" "$D"
refused 2 --window=10pm-4am 'a part of the day' -- --window=10pm-4am "$S" "$D"
refused 2 --finish-at= 'a time of the clock' -- --finish-at= "$S" "$D"
refused 2 --finish-at=5m 'a time of the clock' -- --finish-at=5m "$S" "$D"
refused 2 '--finish-at=2001-02-03 04:05' 'is over' -- \
  '--finish-at=2001-02-03 04:05' "$S" "$D"
refused 2 '--finish-at=2027-02-30 04:05' 'a date and time' -- \
  '--finish-at=2027-02-30 04:05' "$S" "$D"
refused 2 --wait --window 'leave one of them out' -- --wait --window=22:00-04:00 \
  "$S" "$D"
refused 2 --hook= 'path of a program' -- --hook= "$S" "$D"
refused 2 --hook=/nowhere 'path of a program' -- --hook=/nowhere "$S" "$D"
refused 2 --hook=true 'path of a program' -- --hook=true "$S" "$D"
refused 2 --hook=/ 'path of a program' -- --hook=/ "$S" "$D"
refused 2 'goes with --hook' -- --hook-timeout=5s "$S" "$D"
refused 2 --hook-timeout=8785h 'at most a year' -- --hook=/bin/true \
  --hook-timeout=8785h "$S" "$D"
refused 2 --hook-timeout=5 'not a duration' -- --hook=/bin/true \
  --hook-timeout=5 "$S" "$D"
refused 2 SOURCE missing -- wait
refused 2 'soon' 'must be ready or done' -- wait "$S" soon
refused 2 "'done' is one argument too many" -- wait "$S" ready 'done'
refused 2 --timeout=5 'not a duration' -- wait --timeout=5 "$S"
refused 2 --timeout=0s 'above 0' -- wait --timeout=0s "$S"
refused 2 --timeout= 'not a duration' -- wait --timeout= "$S"
refused 2 "'--timeout' needs a value" -- finish "$S" --timeout
refused 2 'contradict each other' -- finish --no-wait --timeout=5s "$S"
refused 2 "no option '--no-wait'" -- cancel --no-wait "$S"
refused 1 'no migration' -- wait --timeout=5s "$S" ready
refused 1 nowhere.sock -- wait "nbd+unix:///?socket=$tmp/nowhere.sock"
refused 2 "'$S' is one argument too many" -- list "$S"
refused 2 --watch=5 'not a duration' -- status --watch=5 "$S"
refused 2 --watch=0 'above 0' -- status --watch=0 "$S"
refused 2 SOURCE missing -- pause
refused 2 SOURCE missing -- resume
refused 2 "'now' is one argument too many" -- pause "$S" now
refused 2 'neither an NBD URI nor a directory' -- resume /nowhere
refused 1 nowhere.sock -- pause "nbd+unix:///?socket=$tmp/nowhere.sock"
refused 1 'no migration' -- resume "$S"
refused 2 --finish=handover local: -- --finish=handover "$S" local:
refused 2 --connections=0 -- --connections=0 "$S" "$D"
refused 2 --connections=x -- --connections=x "$S" "$D"
refused 2 --request-size=1 -- --request-size=1 "$S" "$D"
refused 2 --finish=never -- --finish=never "$S" "$D"
refused 2 --progress=x log descriptor -- --progress=x "$S" "$D"
refused 2 --progress= log descriptor -- --progress= "$S" "$D"
refused 2 --progress=999 'no file is open' -- --progress=999 "$S" "$D"
refused 2 --max-pause=5min 5m 1h -- --max-pause=5min "$S" "$D"
refused 2 /dev/sda 'not an NBD URI' -- /dev/sda "$D"
refused 2 http://host/ 'not an NBD URI' -- "$S" http://host/
# getaddrinfo (3) takes a port modulo 65536: that would be another server.
refused 2 nbd://host:76345/ 'from 1 to 65535' -- "$S" nbd://host:76345/
refused 2 nbds://user@host:0 'from 1 to 65535' -- "$S" nbds://user@host:0
refused 2 nbd+ssh://host/ 'ssh -L' -- "$S" nbd+ssh://host/
refused 2 nbds+ssh://host/ 'ssh -L' -- status nbds+ssh://host/
refused 2 NBD://host/ 'small letters' -- "$S" NBD://host/
refused 2 nbd+unix:/// 'names no socket' -- "$S" nbd+unix:///
refused 2 nbd+unix:///vm1.sock 'names no socket' -- "$S" nbd+unix:///vm1.sock
refused 2 'socket=' 'names no socket' -- finish 'nbd+unix:///?socket='
refused 2 nbd://host:0 'from 1 to 65535' -- reopen "$S" owner=destination \
  destination=nbd://host:0
refused 2 "$S" twice -- "$S" "$S"
refused 2 /dev/sda 'neither an NBD URI nor a directory' -- status /dev/sda
refused 2 /nowhere 'neither an NBD URI nor a directory' -- set /nowhere rate=1M
refused 2 statsu command status set finish cancel reopen -- statsu "$S"
refused 2 statsu command -- statsu
refused 2 "the command 'status' must come first" -- --json status "$S"
refused 2 "the option '--verify' takes no value" -- --verify=yes "$S" "$D"
refused 2 "the option '--veri' takes no value" -- --veri=yes "$S" "$D"
refused 2 "the option '--re' is ambiguous" -- --re "$S" "$D"
refused 2 "there is no option '--verify-all'" -- --verify-all "$S" "$D"
refused 2 'rate is given twice' -- set "$S" rate=5M rate=6M
refused 2 'max-pause is given twice' -- set "$S" max-pause=5s rate=1 max-pause=6s
refused 2 'owner is given twice' -- reopen "$S" owner=source owner=destination
refused 2 '1 time for 2 disks' -- --shared-base=nbd://a "$S" "$D" nbd://b nbd://c
refused 2 '2 times for 1 disk;' -- --shared-base=nbd://a --shared-base=nbd://b \
  "$S" "$D"
for command in status 'wait'; do # all but the first take them in one place
  refused 2 '--control=' 'path of a socket' -- $command --control= "$S"
  refused 2 "'' is neither" -- $command ''
  refused 2 --export 'no directory' -- $command --export=x "$S"
  refused 1 "export 'x'" -- $command --export=x "$tmp/proxy.dir"
  refused 1 'announces no control socket' -- $command "$D"
done
refused 2 "after ''" missing -- set ''
mkdir "$tmp/empty"
refused 1 "$tmp/empty" migrate-dir -- status "$tmp/empty"

for command in status list wait set finish pause resume cancel reopen ''; do
  echo "-- nbdmigrate $command --help"
  # shellcheck disable=SC2086 # maybe no word
  "$nbdmigrate" $command --help > "$tmp/help" || fail "exit status $?"
  grep -q '^Usage: nbdmigrate' "$tmp/help"
done

# -- the source
refused 1 nowhere.sock 'No such file' 'is the proxy running' 'status DIR' -- \
  --finish=detach "nbd+unix:///?socket=$tmp/nowhere.sock" "$D"
refused 1 nowhere.control 'No such file' "proxy's host" -- \
  --finish=detach --control="$tmp/nowhere.control" "$S" "$D"

start_nbdkit plain memory $size
refused 1 "$(uri plain)" --filter=migrate -- --finish=detach "$(uri plain)" "$D"
end_bg plain

# A socket that a dead proxy left behind.
start_proxy dead memory $size
crash_bg dead
refused 1 dead.sock 'Connection refused' 'is the proxy running' \
  'status DIR' -- status "$(uri dead)"
"$nbdmigrate" status "$tmp/dead.dir" || fail "exit status $? for an empty one"

mkdir "$tmp/named"
truncate -s 1M "$tmp/named/a"
start_proxy named file dir="$tmp/named" migrate-named-exports=true
refused 1 'no export named' 'nbdinfo --list' 'nbd+unix:///NAME?socket=' \
  migrate-named-exports=true -- status "$(uri named)"
"$nbdmigrate" status "nbd+unix:///a?socket=$tmp/named.sock" > "$tmp/status"
end_bg named

# More names than there is room for: those that the plugin does not know take none.
if /usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log"; then
  start_proxy named file dir="$tmp/named" migrate-named-exports=true
  /usr/bin/python3 -c 'import sys, nbd
for i in range (1030):
  h = nbd.NBD ()
  try:
    h.connect_uri ("nbd+unix:///none%d?socket=%s" % (i, sys.argv[1]))
    sys.exit ("there is no such disk")
  except nbd.Error:
    pass' "$tmp/named.sock"
  "$nbdmigrate" status "nbd+unix:///a?socket=$tmp/named.sock" > "$tmp/status"
  end_bg named
fi

start_proxy other memory $size
nbdinfo --size "$(uri other)" > "$tmp/size" # an export in use
refused 1 "$S" "$tmp/other.dir/control" -- \
  --finish=detach --control="$tmp/other.dir/control" "$S" "$D"
end_bg other

# A proxy that was moved to another host, so to speak.
start_proxy elsewhere memory $size
mv "$tmp/elsewhere.dir/control" "$tmp/elsewhere.dir/gone"
refused 1 "$tmp/elsewhere.dir/control" "proxy's host" -- \
  --finish=detach "$(uri elsewhere)" "$D"
mv "$tmp/elsewhere.dir/gone" "$tmp/elsewhere.dir/control"
end_bg elsewhere

refused 1 --max-pause migrate-max-gate -- --finish=detach --max-pause=1h "$S" "$D"

# -- the destination
# bad_destination TEXT... -- NBDKIT-ARGUMENT...
bad_destination ()
{
  local words=()

  while [ "$1" != -- ]; do
    words+=("$1")
    shift
  done
  shift
  rm -f "$tmp/bad.requests"
  start_nbdkit bad --filter=log "$@" logfile="$tmp/bad.requests"
  refused 1 "$(uri bad)" "${words[@]}" -- --finish=detach "$S" "$(uri bad)"
  ! grep -E ' (Write|Zero|Trim) ' "$tmp/bad.requests" ||
    complain "something was written"
  end_bg bad
}

cat > "$tmp/no-flush.sh" <<EOF
#!/bin/sh
unset LD_PRELOAD # of a sanitizer
case "\$1" in
  get_size) echo $size ;;
  can_write) exit 0 ;;
  can_flush) exit 3 ;;
  pread) head -c \$3 /dev/zero ;;
  pwrite) cat > /dev/null ;;
  *) exit 2 ;;
esac
EOF
chmod +x "$tmp/no-flush.sh"
bad_destination $((size - 512)) $size -- memory $((size - 512))
bad_destination read-only -- -r memory $size
bad_destination flush -- sh "$tmp/no-flush.sh"
refused 1 nowhere.sock 'No such file' 'is that server running' -- \
  --finish=detach "$S" "nbd+unix:///?socket=$tmp/nowhere.sock"
mkdir "$tmp/exports"
start_nbdkit directory file dir="$tmp/exports"
refused 1 no-such-export -- \
  --finish=detach "$S" "nbd+unix:///no-such-export?socket=$tmp/directory.sock"

# -- the filter's own parameters
filter_refused migrate-dir -- memory 1M
filter_refused migrate-chunk=100000 'power of two' -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-chunk=100000
filter_refused migrate-chunk=2K 4K 64M -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-chunk=2K
filter_refused migrate-chunk=128M 4K 64M -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-chunk=128M
filter_refused migrate-chunk=x -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-chunk=x
filter_refused migrate-max-gate=5 -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-max-gate=5
filter_refused migrate-mark= 'path of a file' -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-mark=
filter_refused migrate-mark= 'path of a file' -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-mark="$tmp/"
filter_refused migrate-mark= 'No such file' -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-mark="$tmp/none/mark"
filter_refused migrate-mark= 'must not be in migrate-dir' -- \
  memory 1M migrate-dir="$tmp/bad.dir" migrate-mark="$tmp/bad.dir/state"

# Each of them: without a value, with one that is none, with a unit of something else;
# and twice, also with the same value.  What is right is not looked at, so it is
# the one that comes first.
bad_parameter ()
{
  local name=$1 good=$2 bad

  tried+=("$name")
  shift 2
  for bad; do
    filter_refused "$name=$bad" -- memory 1M migrate-dir="$tmp/refused.dir" "$name=$bad"
    [ "$(wc -l < "$tmp/said")" -eq 1 ] || complain "that is not one sentence"
  done
  filter_refused "$name" 'given twice' -- \
    memory 1M migrate-dir="$tmp/refused.dir" "$name=$good" "$name=$good"
}
bad_parameter migrate-chunk 64K '' -64K 64s 0 3K 64KB '64 K' 1e9
bad_parameter migrate-max-gate 2s '' -1s 2K 0s 2 2sec 11m 1e9s
bad_parameter migrate-reconnect 2s '' -1s 2K 2 2sec 25h
bad_parameter migrate-request-timeout 2s '' -1s 2K 0s 2 2sec 25h
bad_parameter migrate-network-timeout 2s '' -1s 2K 999ms 2 2sec 25h
for name in named-exports require-tls state-sync disconnect; do
  bad_parameter migrate-$name false '' 2 maybe truefalse 1s
done
filter_refused migrate-reconnect=5min 'from 0 to 24h, for example 500ms, 5s or 2m' -- \
  memory 1M migrate-dir="$tmp/refused.dir" migrate-reconnect=5min
bad_parameter migrate-mark "$tmp/mark" '' "$tmp/"
filter_refused 'given twice' -- \
  memory 1M migrate-dir="$tmp/refused.dir" migrate-dir="$tmp/refused.dir"
filter_refused 'must not be empty' -- memory 1M migrate-dir=
filter_refused 'control characters' -- memory 1M migrate-dir="$tmp/a"$'\n'b
known=$(nbdkit --help --filter="$filter" memory | grep -o '^migrate-[a-z-]*' | sort)
[ "$known" = "$(printf '%s\n' "${tried[@]}" migrate-dir | sort)" ] ||
  complain "not all parameters were tried: $known"
[ ! -e "$tmp/refused.dir" ] || complain "a directory was made for what was refused"

long=$(printf 'x%.0s' {1..100})
filter_refused "$long" 107 -- memory 1M migrate-dir="$tmp/$long"
filter_refused serial -- --filter=noparallel memory 1M \
  migrate-dir="$tmp/bad.dir" serialize=all-requests
filter_refused "$tmp/proxy.dir" -- memory 1M migrate-dir="$tmp/proxy.dir"

# -- nothing has happened anywhere
"$nbdmigrate" status --json "$S" > "$tmp/status"
[ "$(jq -c '[.tracking, .session, .owner]' "$tmp/status")" = \
  '[false,false,"source"]' ] || complain "tracking was left on"
if grep -E ' (Write|Zero|Trim) ' "$tmp/destination.requests"; then
  fail "something was written to the destination"
fi
[ $wrong -eq 0 ] || fail "$wrong complaints"
