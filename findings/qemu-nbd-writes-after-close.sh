#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-nbd has closed the connection, and a write of that connection lands later.
#
# Software:  qemu-nbd 7.2+dfsg-7+deb12u18 (Debian 12)
# Behaviour: the disk is slow (here 'throttle' of QEMU itself: 64 KiB a second).
#            A client sends a write and shuts down its side at once.  The server
#            closes the connection, a second client connects, reads the old data,
#            and some seconds later, without anybody having written, it reads the
#            first client's.
# Why it surprises: the end of a connection looks like a fence and is none.  NBD
#            has no other one: a client that connects again and repeats its write,
#            then writes something newer there, can find the old data at the end.
# What follows: a write whose answer was not seen stays dangerous after its
#            connection is gone; its range must be read back later.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch qemu-utils=1:7.2+dfsg-7+deb12u18+b3

truncate -s 1M "$tmp/disk"
start qemu-nbd -t -e 8 -k "$tmp/socket" \
      --object throttle-group,id=slow,x-bps-write=65536 --image-opts \
      "driver=throttle,throttle-group=slow,file.driver=raw,file.file.driver=file,file.file.filename=$tmp/disk"
until_socket "$tmp/socket"

result=$(client "$tmp/socket" <<'END'
import socket
import sys
import time
from client import Client, WRITE

K = 1 << 10
a = Client(sys.argv[1])
for at in range(0, 6):  # they use up what the disk takes at once
    a.send(WRITE, at * 64 * K, data=b"\xaa" * 64 * K)
a.send(WRITE, 512 * K, data=b"\xaa" * 64 * K)
a.sock.shutdown(socket.SHUT_WR)
while True:  # until the server has closed
    try:
        if not a.sock.recv(1 << 16):
            break
    except ConnectionError:
        break
b = Client(sys.argv[1])
first = any(b.read(512 * K, 64 * K))
deadline = time.monotonic() + 60
later = first
while not later and time.monotonic() < deadline:
    later = any(b.read(512 * K, 64 * K))
    time.sleep(0.2)
print("written when the connection was closed: %s; later: %s" % (first, later))
b.disconnect()
END
)
seen "written when the connection was closed: False; later: True" "$result"
