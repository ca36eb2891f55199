#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# qemu-nbd has had an answer from the server behind it and keeps it until the
# next one comes.
#
# Software:  qemu-nbd 7.2+dfsg-7+deb12u18 (Debian 12), as the client of another
#            NBD server; 10.0.13 (Debian 13) does it, too, 11.1.3 does not
# Behaviour: the server behind it takes 0.3 s for a read and 3 s for a write.  A
#            client sends a read and, while that is under way, a write elsewhere.
#            The read is answered together with the write, after 3 s; asked
#            directly, the server answers it after 0.3 s.  The other way round,
#            the write first, both are in time.
# Why it surprises: requests are independent in NBD, both servers carry them out
#            at the same time, and nothing overlaps.  The answer has been read
#            from the socket, too.  It is the same code that a guest's disk is
#            reached with ("-drive driver=nbd").
# What follows: a guest's quick read may take as long as the slowest write beside
#            it, so a proxy that delays writes delays some reads, and the time
#            without an answer that a client sees of a chain of servers is no
#            measure of one request's.  Whoever asks something else in between
#            gets both answers.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch qemu-utils=1:7.2+dfsg-7+deb12u18+b3 nbdkit=1.32.5-1

lib=$(echo "$root"/usr/lib/*/nbdkit)
head -c 1M /dev/urandom > "$tmp/disk"
start nbdkit -f -U "$tmp/slow" --filter="$lib/filters/nbdkit-delay-filter.so" \
      "$lib/plugins/nbdkit-file-plugin.so" "$tmp/disk" rdelay=300ms wdelay=3
until_socket "$tmp/slow"
start qemu-nbd -t -e 4 -k "$tmp/socket" -f raw "nbd+unix:///?socket=$tmp/slow"
until_socket "$tmp/socket"

result=$(client "$tmp/slow" "$tmp/socket" <<'END'
import sys
import time
from client import Client, READ, WRITE

K = 1 << 10


def read_waits(where, first):
    """Is the read answered with the write, and not long before it?"""
    c = Client(where)
    requests = {READ: (READ, 0, K), WRITE: (WRITE, 512 * K, 0, bytes(K))}
    cookies = {first: c.send(*requests.pop(first))}
    time.sleep(0.1)
    for kind, request in requests.items():
        cookies[kind] = c.send(*request)
    c.wait(cookies[READ])
    early = time.monotonic()
    c.wait(cookies[WRITE])
    waits = time.monotonic() - early < 1
    c.disconnect()
    return waits


for name, where in (("asked directly", sys.argv[1]),
                    ("through qemu-nbd", sys.argv[2])):
    print("%s, the read waits for the write: %s after it, %s before it; "
          % (name, read_waits(where, WRITE), read_waits(where, READ)), end="")
END
)
seen "asked directly, the read waits for the write: False after it, False before it; \
through qemu-nbd, the read waits for the write: False after it, True before it; " "$result"
