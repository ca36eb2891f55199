#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbd-server offers multi-conn for an export of which each client has its own.
#
# Software:  nbd-server 3.24 (Debian 12)
# Behaviour: with temporary=true each connection gets a new file, which is gone
#            with it.  The export announces multi-conn all the same.  What one
#            connection has written and flushed a second one does not see.
# Why it surprises: multi-conn promises that after a flush on one connection the
#            others see the data.  A client that spreads its requests over several
#            connections because of it gets a disk made of several.  (With
#            copyonwrite=true, which also gives each client its own, the server
#            does not announce it.)
# What follows: what one connection has written must be seen over another before
#            several are used, and before success is reported.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbd-server=1:3.24-1.1

cat > "$tmp/config" <<END
[generic]
  unixsock = $tmp/socket
[disk]
  exportname = $tmp/disk.%s
  temporary = true
  filesize = 16777216
  flush = true
END
nbd-server -C "$tmp/config" -p "$tmp/pid" 2> "$tmp/log"
until_socket "$tmp/socket"
pids+=("$(cat "$tmp/pid")")

result=$(client "$tmp/socket" <<'END'
import sys
from client import Client

a, b = Client(sys.argv[1], "disk"), Client(sys.argv[1], "disk")
a.write(0, b"\xaa" * 4096)
a.flush()
print("multi-conn: %s; the other connection sees it: %s"
      % (a.has("multi-conn"), any(b.read(0, 4096))))
END
)
seen "multi-conn: True; the other connection sees it: False" "$result"
