#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbd-server answers a long write-zeroes request with success and zeroes the
# first 64 MiB of it.
#
# Software:  nbd-server 3.24 (Debian 12); the same was seen with 3.26.1 and
#            3.27.1
# Behaviour: a client negotiates, sees "can write zeroes" and no block sizes,
#            writes 0xff over 128 MiB, and asks for zeroes over all of it.  The
#            server says that all is well.  Bytes from 64 MiB on are still 0xff.
# Why it surprises: NBD puts no limit below 4 GiB on requests without payload
#            unless the server states a maximum, and this one states none.
# What follows: never ask any server to zero more than 64 MiB at once; 32 MiB
#            where it states no block sizes.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbd-server=1:3.24-1.1

truncate -s 128M "$tmp/disk"
cat > "$tmp/config" <<END
[generic]
  unixsock = $tmp/socket
[disk]
  exportname = $tmp/disk
  flush = true
  trim = true
END
nbd-server -C "$tmp/config" -p "$tmp/pid" 2> "$tmp/log"
until_socket "$tmp/socket"
pids+=("$(cat "$tmp/pid")")

result=$(client "$tmp/socket" <<'END'
import sys
from client import Client

c = Client(sys.argv[1], "disk")
MIB = 1 << 20
for at in range(0, 128):
    c.write(at * MIB, b"\xff" * MIB)
c.zero(0, 128 * MIB)
c.flush()
left = [at for at in range(0, 128) if any(c.read(at * MIB, MIB))]
print("success; not zero from %d MiB to %d MiB" % (left[0], left[-1] + 1)
      if left else "success; all zero")
c.disconnect()
END
)
seen "success; not zero from 64 MiB to 128 MiB" "$result"
