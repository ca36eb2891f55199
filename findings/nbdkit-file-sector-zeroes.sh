#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdkit file on a disk with sectors of 4 KiB writes anything and zeroes little.
#
# Software:  nbdkit 1.32.5 (Debian 12), a loop device with sectors of 4096 bytes
#            (the test needs root for it)
# Behaviour: the server states no block sizes.  A write of 512 bytes at offset 512
#            succeeds, and so does a trim.  Zeroing the same 512 bytes fails with
#            EINVAL, with holes allowed or not; whole sectors can be zeroed.
# Why it surprises: a server without stated block sizes takes any request, and one
#            that takes the write could zero by writing.  A copy of a disk whose
#            end, or whose partitions, are not aligned to 4 KiB fails there, and
#            not with sectors of 512 bytes.
# What follows: on EINVAL zero the whole sectors of the range and write the ends.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.32.5-1

truncate -s 16M "$tmp/image"
device=$(losetup --find --show --sector-size 4096 "$tmp/image")
trap 'tidy; losetup --detach "$device"' EXIT
start nbdkit -f -U "$tmp/socket" \
      "$(echo "$root"/usr/lib/*/nbdkit)/plugins/nbdkit-file-plugin.so" "$device"
until_socket "$tmp/socket"

result=$(client "$tmp/socket" <<'END'
import errno
import sys
from client import Client, NO_HOLE, Refused

c = Client(sys.argv[1])

def tried(what, *args):
    try:
        what(*args)
        return "success"
    except Refused as refused:
        return errno.errorcode[refused.args[0]]

for offset, length in (512, 512), (4096, 4096):
    print("%d bytes: write %s, zero %s, zero without a hole %s, trim %s" % (
        length, tried(c.write, offset, b"\xaa" * length),
        tried(c.zero, offset, length), tried(c.zero, offset, length, NO_HOLE),
        tried(c.trim, offset, length)))
c.disconnect()
END
)
seen "512 bytes: write success, zero EINVAL, zero without a hole EINVAL, \
trim success
4096 bytes: write success, zero success, zero without a hole success, \
trim success" "$result"
