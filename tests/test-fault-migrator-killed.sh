#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Row 11 of the fault table: nbdmigrate is killed at each command that it gives the
# proxy, before or after it is given, by turns.  The guest goes on, whoever owns the
# disk serves it, and the next run does the rest; in the end all is there.  (What is
# asked again goes by its number: the first hold is for the marks.)

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((1024 * 1024 + 512))
steps=(begin "hold 1" take read-back "done" flush-begin flush-end compare
       prepare probe "hold 2" commit "release 2" end)
preload=${LD_PRELOAD:-}:$BUILD/tests/at-command-preload.so

begin_again ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/guest.record" "$tmp"/*.img
  truncate -s $size "$tmp/source.img" "$tmp/destination.img"
  start_proxy proxy file "$tmp/source.img"
  start_nbdkit destination file "$tmp/destination.img"
  fill "$(uri proxy)" 90 > "$tmp/fill.out"
  start_guest guest "$(uri proxy)" --initial "$pattern" --rate 4M --kinds rwWf
}

# It is at the destination: the guest is judged, and all begins again.
is_over ()
{
  ! grep 'out of memory' "$tmp/proxy.log" || fail "nobody was there to be answered"
  stop_guest guest > "$tmp/guest.report"
  verify_final guest "$(uri proxy)" > "$tmp/verdict"
  end_bg proxy
  verify_final guest "$(uri destination)" > "$tmp/verdict"
  end_bg destination
}

# kill_at STEP WHEN
kill_at ()
{
  local name count status=0

  read -r name count <<< "$1"
  AT_COMMAND=$name AT_COUNT=${count:-1} AT_WHEN=$2 LD_PRELOAD=$preload \
    migrate --no-shared-memory --max-pause=3s "$(uri proxy)" "$(uri destination)" 2> "$tmp/shell" ||
    status=$?
  [ $status -eq 137 ] || fail "not killed $2 $1, but exit status $status"
  guest_goes_on guest 10
  wait_for has_status "$(uri proxy)" '.session == false and .gate == "open"'
  owner=$(status .owner)
  echo "$2 $1: the owner is the $owner"
  case $1 in
  commit) [ "$2:$owner" = before:source ] || [ "$2" = after ] ;;
  "release 2" | end) [ "$owner" = destination ] ;;
  *) [ "$owner" = source ] ;;
  esac || fail "killed $2 $1, and the owner is the $owner"
}

begin_again
n=$((seed % 2))
for step in "${steps[@]}"; do
  ((n++ % 2)) && when=before || when=after
  kill_at "$step" "$when"
  [ "$owner" = source ] || { is_over; begin_again; }
done
must_migrate --max-pause=3s "$(uri proxy)" "$(uri destination)"
guest_goes_on guest
is_over
