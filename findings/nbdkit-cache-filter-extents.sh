#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Behind nbdkit's cache filter, block status says "hole" where data was written.
#
# Software:  nbdkit 1.32.5 (Debian 12)
# Behaviour: 'nbdkit --filter=cache' in its default mode (writeback) keeps written
#            data in its cache until a flush, but passes block status through to
#            the plugin.  So a block that was just written, and reads back as
#            written, is reported as a hole that reads as zero.
# Why it surprises: a client that reads the block and one that asks about it get
#            different truths over the same connection, with multi-conn or not.
# What follows: a copy that skips holes (nbdcopy, qemu-img convert) copies zeroes
#            there and ends with success.  Flush before block status is asked, and
#            do not believe "zero" where something may have been written since.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.32.5-1

lib=$(echo "$root"/usr/lib/*/nbdkit)
truncate -s 16M "$tmp/disk"
start nbdkit -f -U "$tmp/socket" --filter="$lib/filters/nbdkit-cache-filter.so" \
      "$lib/plugins/nbdkit-file-plugin.so" "$tmp/disk"
until_socket "$tmp/socket"

result=$(client "$tmp/socket" <<'END'
import sys
from client import Client

c = Client(sys.argv[1], status=True)

def look():
    data = "data" if any(c.read(1 << 20, 1 << 16)) else "zeroes"
    length, flags = c.status(1 << 20, 1 << 16)[0]
    return "%s, %s" % (data, {0: "data", 3: "a hole that is zero"}[flags])

c.write(1 << 20, b"\xaa" * (1 << 16))
before = look()
c.flush()
print("read and status before a flush: %s; after it: %s" % (before, look()))
c.disconnect()
END
)
seen "read and status before a flush: data, a hole that is zero; after it: \
data, data" "$result"
