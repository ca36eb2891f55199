#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A flush succeeds after a reconnection, and what it should cover is gone.
#
# Software:  QEMU's NBD driver with reconnect-delay (qemu-storage-daemon
#            7.2+dfsg-7+deb12u18+b3, Debian 12), nbdkit's retry filter above its nbd
#            plugin (1.32.5, Debian 12)
# Behaviour: a server acknowledges a write, keeps it in a volatile cache and is
#            killed before any flush; then it is started again.  The client
#            connects anew without a word to whoever uses it, and the next flush,
#            of a cache that is empty now, is answered with success.  The write is
#            not there.
# Why it surprises: a flush that succeeds covers all writes that were acknowledged
#            before it; a journal that relies on that is broken.  Linux fails one
#            fsync after such a loss.  The options are recommended for servers
#            that restart, and a clean restart loses nothing: only a crash does.
# What follows: whoever connects anew must have kept what was not flushed and send
#            it again, or fail the next flush.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.32.5-1 qemu-system-common=1:7.2+dfsg-7+deb12u18+b3

lib=$(echo "$root"/usr/lib/*/nbdkit)

# The server whose cache is volatile: nbdkit's cache filter.
server="nbdkit -f -U $tmp/inner --filter=$lib/filters/nbdkit-cache-filter.so \
$lib/plugins/nbdkit-file-plugin.so $tmp/disk"

# through SOCKET: a write, the crash, a flush, a read.
through ()
{
  client "$1" "$tmp/inner" "$inner" "$server" <<'END'
import os
import signal
import subprocess
import sys
from client import Client

outer, inner, pid, server = sys.argv[1:]
c = Client(outer)
c.write(1 << 20, b"\xaa" * 4096)
os.kill(int(pid), signal.SIGKILL)
os.unlink(inner)
again = subprocess.Popen(server.split())
try:
    c.flush()
    print("flush: success; the write is",
          "there" if any(c.read(1 << 20, 4096)) else "gone")
    c.disconnect()
finally:
    again.kill()
    again.wait()
END
  rm -f "$tmp/inner"
}

begin ()
{
  rm -f "$tmp/disk"
  truncate -s 16M "$tmp/disk"
  # shellcheck disable=SC2086 # words
  start $server
  until_socket "$tmp/inner"
  inner=${pids[-1]}
}

begin
start nbdkit -f -U "$tmp/retry" --filter="$lib/filters/nbdkit-retry-filter.so" \
      "$lib/plugins/nbdkit-nbd-plugin.so" socket="$tmp/inner" retry-delay=1 \
      2> /dev/null
until_socket "$tmp/retry"
seen "nbdkit's retry filter: flush: success; the write is gone" \
     "nbdkit's retry filter: $(through "$tmp/retry")"

begin
start qemu-storage-daemon \
      --blockdev "driver=nbd,node-name=disk,reconnect-delay=30,\
server.type=unix,server.path=$tmp/inner" \
      --nbd-server addr.type=unix,addr.path="$tmp/qemu" \
      --export type=nbd,id=export,node-name=disk,name=,writable=on
until_socket "$tmp/qemu"
seen "QEMU with reconnect-delay: flush: success; the write is gone" \
     "QEMU with reconnect-delay: $(through "$tmp/qemu")"
