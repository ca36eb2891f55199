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

units=$SRCDIR/examples/systemd
unit=$units/nbdkit-migrate@.service

if command -v systemd-analyze > /dev/null; then
  echo "-- systemd-analyze"
  systemd-analyze --man=no verify "$unit" "$units/qemu-nbd@.service"
  systemd-analyze security --offline=true --threshold=20 --no-pager "$unit" \
    > "$tmp/security" || fail "$(tail -n 1 "$tmp/security")"
  tail -n 1 "$tmp/security"
fi

echo "-- needrestart leaves them alone"
# It takes each as the key of a hash again.
grep '^ *.nrconf{' "$units/README.md" > "$tmp/needrestart.conf"
perl -e '
  our %nrconf;
  defined do shift or die "no Perl\n";
  for my $unit (@ARGV) {
    grep { $unit =~ /$_/ } keys %{$nrconf{override_rc}} or die "not $unit\n";
  }' "$tmp/needrestart.conf" {nbdkit-migrate,qemu-nbd}@vm1.service 2> "$tmp/said" ||
  fail "$(cat "$tmp/said")"

# value KEY: of a line of the unit, with the specifiers put in.
value ()
{
  sed -n "s/^$1=//p" "$unit" |
    sed "s|%t|$tmp/run|g; s|%S|$tmp/state|g; s|%i|vm1|g"
}

# assignments FILE: what an EnvironmentFile assigns, for bash.
assignments ()
{
  sed 's/^\([A-Z]*\)=\(.*\)/\1="\2"/' "$1"
}

# What the unit tells systemd to do, as far as it goes without systemd.
start_unit ()
{
  local command prepare

  # shellcheck source=examples/systemd/example.conf
  source <(assignments "$units/example.conf")
  [ ! -e "$tmp/qcow2.conf" ] || DISK=$(cat "$tmp/qcow2.conf")
  DISK=${DISK//\/srv\/nbd/$tmp}
  OPTIONS=${OPTIONS//\/srv\/nbd/$tmp}
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

# started UNIT PID: what it does when that process has been started, as it says that.
started ()
{
  local command unit=$units/$1

  command=$(value ExecStartPost)
  MAINPID=$2 timeout 20 sh -c "${command//\$\$/\$}" > "$tmp/said" 2>&1
}

echo "-- a server that ended at once"
true &
ended=$!
wait "$ended"
for service in nbdkit-migrate@.service qemu-nbd@.service; do
  for pid in "$ended" ''; do # systemd has none if it knows of the end
    expect_status 1 started "$service" "$pid"
    [ ! -s "$tmp/said" ] || fail "$service says besides: $(cat "$tmp/said")"
  done
done

socket=$tmp/run/nbdkit-migrate/vm1/nbd.sock
source_uri="nbd+unix:///?socket=$socket"
truncate -s 8M "$tmp/vm1.img" "$tmp/destination"

echo "-- the command line"
start_nbdkit destination file "$tmp/destination"
start_unit
started nbdkit-migrate@.service "${pids[proxy]}" || fail "$(cat "$tmp/said")"
[ "$(stat -c %a "$socket")" = 660 ] || fail "its group cannot connect"
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

echo "-- an image in another format, and a guest that waits for its disk"
requires qemu-nbd qemu-img qemu-io
qemu-img create -q -f qcow2 "$tmp/vm1.qcow2" 8M
rm -r "$tmp/state/nbdkit-migrate/vm1"
mkdir -p "$tmp/run/qemu-nbd/vm1"
image_socket=$tmp/run/qemu-nbd/vm1/nbd.sock

start_image ()
{
  local command IMAGE FORMAT unit=$units/qemu-nbd@.service

  # shellcheck source=examples/systemd/qemu-nbd.example.conf
  source <(assignments "$units/qemu-nbd.example.conf")
  command=$(value ExecStart)
  command=${command/\/usr\/bin\/qemu-nbd/qemu-nbd}
  # Not every file system of a test has O_DIRECT.
  command=${command/--cache=none --aio=native/--cache=writeback}
  command=${command/\$\{FORMAT\}/$FORMAT}
  command=${command/\$\{IMAGE\}/${IMAGE/\/srv\/nbd/$tmp}}
  # shellcheck disable=SC2086 # systemd splits into words, too
  start_bg image $command
  wait_for [ -S "$image_socket" ]
}

# Since the proxy was started.  What qemu-io prints comes at its end.
has_written ()
{
  "$nbdmigrate" status --json "$source_uri" | jq -e '.guest.writes > 0' \
    > "$tmp/answer"
}

start_image
echo "nbd socket=$image_socket" > "$tmp/qcow2.conf"
start_unit
mkfifo "$tmp/commands"
exec {to_guest}<> "$tmp/commands" # opened by both ends
# shellcheck disable=SC2016 # for that shell
start_bg qemu-io sh -c 'exec < "$0"; exec "$@"' "$tmp/commands" \
  qemu-io --image-opts "driver=raw,file.driver=nbd,file.server.type=unix,\
file.server.path=$socket,file.reconnect-delay=60"
echo "write -P 7 0 64k" >&"$to_guest"
wait_for has_written
crash_bg proxy
echo "write -P 8 64k 64k" >&"$to_guest"
start_unit
wait_for has_written
echo quit >&"$to_guest"
wait_bg qemu-io || fail "the guest ended with exit status $?"
! grep -q 'rror' "$tmp/qemu-io.log" || fail "the guest got an error"
end_bg proxy
end_bg image
qemu-io -f qcow2 -c 'read -P 7 0 64k' -c 'read -P 8 64k 64k' \
  "$tmp/vm1.qcow2" > "$tmp/read"
! grep -q 'failed' "$tmp/read" || fail "the image holds something else"
