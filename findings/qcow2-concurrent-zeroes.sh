#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# QEMU loses written data in a qcow2 image when a write and a small zeroing meet
# in one cluster that is allocated and marked as zero.
#
# Software:  qemu-nbd 7.2+dfsg-7+deb12u18 (Debian 12), a fresh qcow2 image with 64 KiB clusters
# Behaviour: two clusters are zeroed with "no hole", which leaves them allocated
#            and marked as zero.  Then sixteen requests are sent at once: writes,
#            and write-zeroes that may leave holes, each a few sectors long, none
#            overlapping another.  After all of them were answered some sectors do
#            not hold what was written to them.  It takes a second to see; often
#            the server also prints "qcow2_free_clusters failed".
# Why it surprises: requests that do not overlap have no order between them, and
#            need none: each must take effect whatever else runs.  Where the
#            clusters were zeroed with a hole before, or all zeroing is of one
#            kind, or requests go one at a time, nothing is lost.
# What follows: a program that copies into qcow2 uses one kind of zeroing, the one
#            with holes, and no image whose clusters may be marked so.  A guest on
#            such an image can lose data, with or without a migration.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch qemu-utils=1:7.2+dfsg-7+deb12u18+b3

qemu-img create -q -f qcow2 "$tmp/disk.qcow2" 4M
start qemu-nbd -t -f qcow2 -k "$tmp/socket" --discard=unmap "$tmp/disk.qcow2"
until_socket "$tmp/socket"

seed=${1:-$(od -An -N4 -tu4 /dev/urandom)}
echo "seed $((seed))"
result=$(client "$tmp/socket" "$((seed))" <<'END'
import random
import sys
from client import Client, NO_HOLE, WRITE, ZERO

SECTOR, DEPTH, ROUNDS = 512, 16, 4000
SECTORS = (4 << 20) // SECTOR
pick = random.Random(int(sys.argv[2]))
c = Client(sys.argv[1])
content = [0] * SECTORS
stamp = 0

def batch():
    """Two clusters become zero, then up to DEPTH requests at once in them."""
    global stamp
    base = pick.randrange(SECTORS // 128 - 1) * 128
    c.zero(base * SECTOR, 256 * SECTOR, flags=NO_HOLE)
    content[base:base + 256] = [0] * 256
    taken, sent = set(), []
    for _ in range(DEPTH):
        n = pick.randint(1, 12)
        at = base + pick.randrange(256 - n)
        if not taken.isdisjoint(range(at, at + n)):
            continue
        taken.update(range(at, at + n))
        kind = pick.choice((WRITE, ZERO))
        stamp = stamp % 255 + 1
        if kind == WRITE:
            cookie = c.send(WRITE, at * SECTOR, data=bytes([stamp]) * n * SECTOR)
        else:
            cookie = c.send(ZERO, at * SECTOR, n * SECTOR)
        sent.append((cookie, at, n, stamp if kind == WRITE else 0))
    for cookie, at, n, value in sent:
        c.wait(cookie)
        content[at:at + n] = [value] * n
    return base

lost = False
for _ in range(ROUNDS):
    base = batch()
    data = c.read(base * SECTOR, 256 * SECTOR)
    for i in range(256):
        if data[i * SECTOR:(i + 1) * SECTOR] != bytes([content[base + i]]) * SECTOR:
            lost = True
    if lost:
        break
print("written data was lost" if lost else "nothing was lost")
END
)
seen "written data was lost" "$result"
