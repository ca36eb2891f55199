#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdkit's limit filter counts exports that are open, not clients that connect.
#
# Software:  nbdkit 1.32.5 (Debian 12)
# Behaviour: the place of a client is taken when it asks for the export with
#            NBD_OPT_GO.  One that connected before, was greeted, and is still
#            negotiating has none, and loses to one that came after it.
# Why it surprises: its manual speaks of clients that try to connect, of which the
#            later ones are rejected.
# What follows: of connections that a client opens side by side, the one with more
#            to negotiate (TLS, structured replies, metadata contexts) can be the
#            one that is refused, though it was the first and the others need it.
#            Further connections should hold back before NBD_OPT_GO until the
#            first one has the export.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.32.5-1

lib=$(echo "$root"/usr/lib/*/nbdkit)
start nbdkit -f -U "$tmp/socket" --filter="$lib/filters/nbdkit-limit-filter.so" \
      "$lib/plugins/nbdkit-memory-plugin.so" 1M limit=1
until_socket "$tmp/socket"

result=$(client "$tmp/socket" <<'END' 2> /dev/null
import socket
import sys
from client import Client

first = socket.socket(socket.AF_UNIX)
first.connect(sys.argv[1])
first.recv(18, socket.MSG_PEEK | socket.MSG_WAITALL)  # it was greeted

def attempt(connected):
    try:
        return "served", Client(sys.argv[1], connected=connected)
    except (AssertionError, EOFError, OSError):
        return "refused", None

second, kept = attempt(None)
print("greeted first: %s; came second: %s" % (attempt(first)[0], second))
END
)
seen "greeted first: refused; came second: served" "$result"
