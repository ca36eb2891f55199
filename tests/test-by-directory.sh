#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The commands find a disk by its proxy's migrate-dir as well, or with
# --control=, and do not connect to the export then: they also work when nobody
# can be served.  With several disks --export= chooses.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

dir=$tmp/proxy.dir
nobody="nbd+unix:///?socket=$tmp/nobody.sock"

# said STATUS TEXT ARGUMENT...: of nbdmigrate.
said ()
{
  local status=$1 text=$2

  shift 2
  expect_status "$status" "$nbdmigrate" "$@" > "$tmp/said" 2>&1
  grep -qF -- "$text" "$tmp/said" ||
    fail "this is not said: $text in $(cat "$tmp/said")"
}

for name in a b; do
  truncate -s 1M "$tmp/$name"
done

echo "-- no proxy is running"
mkdir -m 700 "$dir"
said 1 'the proxy must be running' reopen "$dir"
said 1 'holds nothing of the filter' status "$dir"

echo "-- no client has connected yet"
start_proxy proxy file "$tmp/a"
start_nbdkit destination memory 1M
said 0 'holds no record' status "$dir"
said 1 'knows no disk' cancel "$dir"
# With --control it is connected to as before, only so the filter learns of it.
said 0 "place        the proxy's local image" status --control="$dir/control" "$(uri proxy)"

echo "-- --control, and nothing behind the URI"
said 0 "place        the proxy's local image" status --control="$dir/control" "$nobody"
said 1 'nothing to cancel' cancel --control="$dir/control" "$nobody"
said 0 "is served from the proxy's local image" reopen --control="$dir/control" "$nobody"
said 1 'nobody.sock' status "$nobody"

echo "-- --control, and a directory"
mkdir "$tmp/elsewhere"
said 0 "place        the proxy's local image" status --control="$dir/control" "$tmp/elsewhere"
said 1 'nothing to cancel' cancel --control="$dir/control" "$tmp/elsewhere"
for command in status cancel; do # not the one in the directory instead
  said 1 "$tmp/nobody.sock of $dir" $command --control="$tmp/nobody.sock" "$dir"
done

echo "-- a migration, steered by the directory"
fill "$(uri proxy)" 100
start_migrate --finish=detach --wait --rate=64K --max-pause=300ms \
  "$(uri proxy)" "$(uri destination)"
wait_for has_status "$dir" '.progress.phase == "bulk"'
"$nbdmigrate" set "$dir" rate=0
said 2 'is no directory' set --export=a "$(uri proxy)" rate=0
wait_for has_status "$dir" '.progress.phase == "ready"'
said 1 'a migration of this disk is running' reopen "$dir"
"$nbdmigrate" finish --control="$dir/control" "$nobody" handover
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
said 1 'was handed over' cancel "$dir"

echo "-- a handover is taken back"
said 0 "is served from the proxy's local image" reopen "$dir"
must_have_status "$dir" '.owner == "source"'
end_bg proxy
rm -r "$dir"

echo "-- somebody else may look at the directory, but not at what is in it"
if [ "$(id -u)" -eq 0 ] && command -v setpriv > "$tmp/setpriv"; then
  chmod 711 "$tmp"
  cp "$nbdmigrate" "$tmp/program" # where anybody may run it
  # stranger_said TEXT ARGUMENT...
  stranger_said ()
  {
    local text=$1

    shift
    expect_status 1 setpriv --reuid=65534 --clear-groups "$tmp/program" "$@" \
      > "$tmp/said" 2>&1
    grep -qF -- "$text" "$tmp/said" ||
      fail "this is not said: $text in $(cat "$tmp/said")"
    ! grep -q reopen "$tmp/said" || fail "reopen is recommended"
  }
  start_proxy proxy file "$tmp/a"
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  stranger_said "$dir/control: Permission denied; run it as root" status "$dir"
  chmod 755 "$dir"
  stranger_said "$dir/control: Permission denied; run it as root" status "$dir"
  for command in cancel 'set rate=1M' finish; do
    # shellcheck disable=SC2086 # the argument follows DIR
    set -- $command
    stranger_said 'Permission denied; run it as root' "$1" "$dir" "${@:2}"
  done
  chmod 600 "$tmp/proxy.sock"
  stranger_said 'Permission denied; run it as root' status "$(uri proxy)"
  ! grep -q 'is the proxy running' "$tmp/said" || fail "it is asked if it runs"
  end_bg proxy
  stranger_said "$dir/state: Permission denied; run it as root" status "$dir"
  rm -r "$dir"
fi

echo "-- a proxy that does not answer, and has no record"
start_proxy proxy null 1M
kill_bg proxy STOP
said 1 'holds no record, and the nbdkit that uses it does not answer' status "$dir"
kill_bg proxy CONT
end_bg proxy
said 0 'no disk there was ever migrated' status "$dir"
rm -r "$dir"

echo "-- two disks of one proxy"
mkdir "$tmp/disks"
mv "$tmp/a" "$tmp/b" "$tmp/disks"
start_proxy proxy file dir="$tmp/disks" migrate-named-exports=true
nbdinfo --size "nbd+unix:///b?socket=$tmp/proxy.sock" > "$tmp/size"
A="nbd+unix:///a?socket=$tmp/proxy.sock"
B="nbd+unix:///b?socket=$tmp/proxy.sock"
must_migrate --finish=handover "$A" "$(uri destination)"
end_bg destination
start_nbdkit destination memory 1M
must_migrate --finish=detach "$B" "$(uri destination)"
said 1 "has 2 disks" cancel "$dir"
said 1 "has 2 disks" reopen "$dir"
said 1 "export 'a') was handed over" cancel --export=a "$dir"
said 0 'since the detach' cancel --export=b "$dir"
said 1 "the disk of $dir (export 'c'): no client" cancel --export=c "$dir"
[ "$(status_of "$dir" .export | paste -sd,)" = a,b ] || # not as they were opened
  fail "the disks of a proxy are not in order"
said 0 "export 'a') is served from the proxy's local image" reopen --export=a "$dir"
said 1 'nothing to cancel' cancel --control="$dir/control" "$A"

echo "-- started again: one is open, the other one is known by its state file"
end_bg proxy
start_proxy proxy file dir="$tmp/disks" migrate-named-exports=true
"$nbdmigrate" status "$B" > "$tmp/said"
"$nbdmigrate" status --json "$dir" | jq -s -e 'length == 2 and
  (map(.export) | sort) == ["a", "b"] and
  (map(select(.export == "a")) | .[0].running) == false' > "$tmp/jq.out"
"$nbdmigrate" status "$dir" > "$tmp/said"
grep '^proxy ' "$tmp/said" | sort | tr -s ' ' | paste -sd, > "$tmp/proxy"
[ "$(cat "$tmp/proxy")" = \
  'proxy running,proxy running; no client has opened this disk yet' ] ||
  fail "the proxy: $(cat "$tmp/proxy")"
said 1 'no client has opened it' reopen --export=a "$dir"

echo "-- pivoted, and started again without its destination"
end_bg destination
start_nbdkit destination memory 1M
must_migrate "$B" "$(uri destination)"
kill_bg proxy STOP
said 0 'proxy        not answering' status "$dir"
kill_bg proxy CONT
end_bg proxy
said 0 'proxy        not running' status "$dir"
end_bg destination
start_proxy proxy file dir="$tmp/disks" migrate-named-exports=true
said 1 'nothing was changed' reopen --export=b "$dir" owner=destination
said 1 "needs migrate-named-exports=true of the proxy); if this has worked" \
  status "$B"
start_nbdkit moved memory 1M
said 1 "export 'b') was pivoted" cancel --export=b "$dir"
said 0 "export 'b') is served from nbd" reopen --export=b "$dir" \
  owner=destination destination="$(uri moved)"
said 0 "$(uri moved)" status "$B"
end_bg proxy

echo "-- the plugin's default export has a name"
named=(--filter=exportname memory 1M exportname=disk default-export=disk)
rm -rf "$dir"
start_proxy proxy "${named[@]}"
start_nbdkit destination memory 1M
must_migrate "$(uri proxy)" "$(uri destination)"
end_bg proxy
end_bg destination
start_proxy proxy "${named[@]}"
said 1 "no export named ''" status "$(uri proxy)"
grep -q 'DIR.*tell; otherwise .*named-exports' "$tmp/said" ||
  fail "the likelier is not said first: $(cat "$tmp/said")"
! grep -q reopen "$tmp/said" || fail "a command is told that fails as it stands"
said 0 'is served from nbd' reopen "$dir" owner=destination \
  destination="$(uri moved)"
said 0 "$(uri moved)" status "$(uri proxy)"
expect_status 1 nbdinfo --size "nbd+unix:///other?socket=$tmp/proxy.sock" \
  > "$tmp/said" 2>&1
