#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# R10 where the disk moves on from one server to another: the proxy is killed
# with SIGKILL in the record of the beginning and at the steps of that of the
# commit, and started again, without what its plugin had.  Each time the disk is
# in one place, that holds all that the guest was told is done, and it is still
# there after another restart; the migrator says the same (R11).
# (test-pivot-crash does it for the first move, at every step.)
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((1024 * 1024 + 512))

proxy_is_gone ()
{
  has_ended "${pids[proxy]}"
}

# The migrator has ended or the proxy died under it.
is_decided ()
{
  proxy_is_gone || has_ended "${pids[migrator]}"
}

restart_proxy ()
{
  start_proxy proxy -v null size=$size
}

# serves NAME: whether the guest is served from this server.  Both are marked
# with their names first.
serves ()
{
  local name

  for name in a b; do
    printf '%-16s' $name | dd of="$tmp/$name" conv=notrunc status=none
  done
  nbdcopy "$(uri proxy)" "$tmp/seen"
  [ "$(head -c 16 "$tmp/seen")" = "$(printf '%-16s' "$1")" ]
}

# The name of the server where the disk is.
place ()
{
  basename "$(status '.place | sub(".*socket="; "")')" .sock
}

check_place ()
{
  verify_final guest "$(uri proxy)" > "$tmp/verdict"
  serves "$1" || fail "the disk is at $1, and another server serves"
  end_bg proxy
  restart_proxy
  nbdinfo "$(uri proxy)" > "$tmp/nbdinfo.out"
  [ "$(place)" = "$1" ] || fail "not there after a restart"
  serves "$1" || fail "after another restart, another server serves"
}

# crash HOW STEP: false if there is no such step.
crash ()
{
  local status=0 at

  rm -rf "$tmp/proxy.dir" "$tmp/guest.record"
  cp -r "$tmp/at-a" "$tmp/proxy.dir"
  for at in a b; do
    truncate -s 0 "$tmp/$at"
    truncate -s $size "$tmp/$at"
  done
  rm -f "$tmp/steps"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy.dir \
    CRASH_LOG=$tmp/steps CRASH_HOW=$1 CRASH_AT=$2 restart_proxy
  start_guest guest "$(uri proxy)" --cells 300 --depth 4 --rate 4M \
    --expect-disconnect
  start_migrate --max-pause=5s "$(uri proxy)" "$(uri b)"
  wait_for is_decided
  if ! proxy_is_gone; then
    wait_bg migrator || fail "the migrator failed, and nobody was killed"
    stop_guest guest
    end_bg proxy
    return 1
  fi
  wait_bg guest || fail "the guest ended with exit status $?"
  expect_status 137 wait_bg proxy
  restart_proxy
  nbdinfo "$(uri proxy)" > "$tmp/nbdinfo.out"
  wait_bg migrator || status=$?
  at=$(place)
  echo "killed $1 step $2 ($(tail -n 1 "$tmp/steps")): at $at, exit status" \
    "$status"
  case $at:$status in
  a:1 | b:0) ;;
  *) fail "exit status $status, but the disk is at $at" ;;
  esac
  check_place "$at"
  seen[$at]=1
  end_bg proxy
}

truncate -s $size "$tmp/a" "$tmp/b"
start_nbdkit a file "$tmp/a"
start_nbdkit b file "$tmp/b"
start_proxy proxy null size=$size
must_migrate "$(uri proxy)" "$(uri a)"
end_bg proxy
mv "$tmp/proxy.dir" "$tmp/at-a"

# How many steps there are.  The last four are those of the commit.
declare -A seen=()
! crash before 0 || fail "killed, and nobody asked for it"
steps=$(wc -l < "$tmp/steps")
((steps > 5)) || fail "only $steps steps"
crash before 2 || fail "not killed in the beginning"
crash torn $((steps - 3)) || fail "not killed in the first write"
crash before $((steps - 2)) || fail "not killed before the first sync"
crash torn $((steps - 1)) || fail "not killed in the second write"
[ ${#seen[@]} -eq 2 ] || fail "the places seen: ${!seen[*]}"
