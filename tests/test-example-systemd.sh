#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/systemd/: systemd finds nothing wrong with the unit and its sandbox
# tight, and its command line serves a disk that can be moved, and serves the
# destination when it is run again after it was killed.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

unit=$SRCDIR/examples/systemd/nbdkit-migrate@.service

if command -v systemd-analyze > /dev/null; then
  echo "-- systemd-analyze"
  systemd-analyze --man=no verify "$unit"
  systemd-analyze security --offline=true --threshold=20 --no-pager "$unit" \
    > "$tmp/security" || fail "$(tail -n 1 "$tmp/security")"
  tail -n 1 "$tmp/security"
fi

# value KEY: of a line of the unit, with the specifiers put in.
value ()
{
  sed -n "s/^$1=//p" "$unit" |
    sed "s|%t|$tmp/run|g; s|%S|$tmp/state|g; s|%i|vm1|g"
}

# What the unit tells systemd to do, as far as it goes without systemd.
start_unit ()
{
  local command prepare

  # shellcheck source=examples/systemd/example.conf
  source <(sed 's/^\([A-Z]*\)=\(.*\)/\1="\2"/' \
    "$SRCDIR/examples/systemd/example.conf")
  DISK=${DISK//\/srv\/nbd/$tmp}
  mkdir -p "$tmp/run/nbdkit-migrate/vm1" "$tmp/state/nbdkit-migrate/vm1"
  chmod 700 "$tmp/state/nbdkit-migrate/vm1"
  prepare=$(value ExecStartPre)
  $prepare
  command=$(value ExecStart)
  command=${command/\/usr\/bin\/nbdkit/nbdkit}
  command=${command/--filter=migrate/--filter=$filter}
  command=${command/\$DISK/$DISK}
  command=${command/\$OPTIONS/$OPTIONS}
  # shellcheck disable=SC2086 # systemd splits into words, too
  start_bg proxy $command
  wait_for is_socket "$socket"
}

is_socket ()
{
  is_running "${pids[proxy]}" || fail "the proxy did not start"
  [ -S "$1" ]
}

socket=$tmp/run/nbdkit-migrate/vm1/nbd.sock
source_uri="nbd+unix:///?socket=$socket"
truncate -s 8M "$tmp/vm1.img" "$tmp/destination"

echo "-- the command line"
start_nbdkit destination file "$tmp/destination"
start_unit
start_guest guest "$source_uri" --rate 4M --expect-disconnect
must_migrate "$source_uri" "$(uri destination)"
guest_goes_on guest
crash_bg proxy
wait_bg guest || fail "the guest ended with exit status $?"

echo "-- run again"
start_unit
verify_final guest "$source_uri"
"$nbdmigrate" status "$source_uri" | tee "$tmp/status"
grep -qF "place        $(uri destination)" "$tmp/status"
end_bg proxy
