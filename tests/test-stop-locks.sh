#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The proxy is told to stop while a write is under way.  Idle clients are hung up
# on, and the plugin keeps its POSIX lock until that write has ended: to close any
# descriptor of the file would drop it.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io python3

inode ()
{
  stat -c %i "$tmp/locked"
}

is_locked ()
{
  grep -q "POSIX .*:$(inode) " /proc/locks
}

is_writing ()
{
  has_status "$(uri proxy)" '.in_flight_requests > 0'
}

start_proxy proxy "$BUILD/tests/nbdkit-locked-plugin.so" file="$tmp/locked" \
  go="$tmp/go"
start_bg idle python3 -c '
import socket, sys
s = socket.socket (socket.AF_UNIX)
s.connect (sys.argv[1])
while s.recv (1000):
    print ("connected", flush=True)
' "$tmp/proxy.sock"
wait_for grep -q connected "$tmp/idle.out"
start_bg writer qemu-io -f raw -c 'write 0 4k' "$(uri proxy)"
wait_for is_writing
is_locked || fail "no lock to begin with"
kill_bg proxy TERM
wait_bg idle || fail "the idle client ended with exit status $?"
is_locked || fail "the lock is gone while the write is under way"
touch "$tmp/go"
wait_bg proxy || fail "the proxy ended with exit status $?"
wait_bg writer || :
