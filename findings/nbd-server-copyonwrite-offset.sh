#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbd-server with copyonwrite = true, asked to read what was written before by a client
# that agreed on structured replies, names another offset than the one that was asked for.
#
# Software:  nbd-server 3.27.1 (Debian unstable, of November 2026).  3.26.1 (Debian 13) is
#            right; 3.24 (Debian 12) has no structured replies.
# Behaviour: a client writes 4 KiB at 64 KiB and reads them back.  The data is right, the
#            offset in the chunk of the reply is 68 KiB: its own length too far.  Without
#            copyonwrite it is 64 KiB.
# Why it surprises: the same server answers the same request rightly where nothing has
#            been written yet, or with simple replies.
# What follows: libnbd and others close the connection to a server that answers so.  Of
#            such an export nothing can be read back, whatever reads it; nbdmigrate, which
#            writes a mark and reads it, is refused by it with the words of libnbd.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbd-server=1:3.27.1-4

# offset_of LINE: in the reply to such a read, with LINE in the configuration.
offset_of ()
{
  truncate -s 1M "$tmp/disk"
  printf '[generic]\nunixsock = %s\n[disk]\nexportname = %s\n%s\n' \
    "$tmp/socket" "$tmp/disk" "$1" > "$tmp/config"
  rm -f "$tmp/socket" "$tmp/pid"
  nbd-server -C "$tmp/config" -p "$tmp/pid" 2> "$tmp/log"
  until_socket "$tmp/socket"
  until [ -s "$tmp/pid" ]; do sleep 0.05; done
  pids+=("$(cat "$tmp/pid")")
  client "$tmp/socket" <<'END'
import sys
from client import Client

c = Client(sys.argv[1], "disk", structured=True)
c.read(64 << 10, 4096)
c.write(64 << 10, b"x" * 4096)
assert c.read(64 << 10, 4096) == b"x" * 4096
print(" ".join("%d KiB" % (o >> 10) for o in c.chunks), end="")
c.disconnect()
END
  kill "$(cat "$tmp/pid")"
  unset 'pids[-1]'
}

seen "64 KiB 64 KiB; with copyonwrite 64 KiB 68 KiB" \
  "$(offset_of 'copyonwrite = false'); with copyonwrite $(offset_of 'copyonwrite = true')"
