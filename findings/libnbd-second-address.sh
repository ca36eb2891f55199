#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# libnbd does not go on to a host's next address if the first one fails late.
#
# Software:  libnbd 1.14.2 (Debian 12); newer ones were not tried
# Behaviour: a name has an IPv6 and an IPv4 address, and the server listens on the
#            second.  If connect(2) refuses the first at once, libnbd goes on to
#            the next.  If it says EINPROGRESS and the failure comes later (no
#            such neighbour, after three seconds), nbd_connect_uri fails with
#            "recv: No route to host", and the second address is never tried.
#            Python's socket.create_connection reaches the server.
# Why it surprises: whether an address fails at once or late is up to the network,
#            and the list of addresses is there for both.  The message speaks of
#            recv, as if there had been a connection.
# What follows: a program that must reach a host by name resolves and dials by
#            itself, and gives libnbd the connected socket.
#
# Needs root, for a network of its own.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch libnbd0=1.14.2-1 libnbd-bin=1.14.2-1 nbdkit=1.32.5-1

printf '%s\n' '2001:db8::2 disk' '10.9.0.1 disk' > "$tmp/hosts"
cat > "$tmp/inside" <<'END'
set -e
mount --bind "$1/hosts" /etc/hosts
ip link set lo up
ip link add near type veth peer name far
ip address add 10.9.0.1/24 dev near
ip address add 2001:db8::1/64 dev near nodad
ip link set near up
ip link set far up
nbdkit -f -P "$1/pid" -i 10.9.0.1 -p 10999 "$2" 1M &
trap 'kill $!' EXIT
while [ ! -s "$1/pid" ]; do sleep 0.05; done
nbdinfo --size nbd://10.9.0.1:10999
nbdinfo --size nbd://disk:10999 2>&1 || echo "exit status $?"
python3 -c 'import socket as s; print(s.create_connection(("disk", 10999)).getpeername()[0])'
END
plugin=$(echo "$root"/usr/lib/*/nbdkit/plugins/nbdkit-memory-plugin.so)
result=$(unshare --net --mount bash "$tmp/inside" "$tmp" "$plugin")
seen "1048576
nbdinfo: nbd_connect_uri: recv: No route to host
exit status 1
10.9.0.1" "$result"
