#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# libnbd: a request on a handle whose connection has just died fails with EINVAL.
#
# Software:  libnbd 1.14.2 (Debian 12), against nbdkit 1.32.5
# Behaviour: a request that was under way when the server went away fails with
#            ENOTCONN.  The next one, on the same handle, fails with EINVAL, "invalid
#            state: DEAD: the handle must be connected with the server".  ENOTCONN is
#            kept for handles that were never connected.
# Why it surprises: nothing was invalid in the request; and who connects again on
#            ENOTCONN, and gives up on EINVAL, does either by chance, as the two
#            requests may be a microsecond apart.
# What follows: ask for the handle's state (nbd_aio_is_dead, nbd_aio_is_closed) and
#            not for the error, to tell a lost server from a wrong request.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.32.5-1 libnbd0=1.14.2-1 python3-libnbd=1.14.2-1

lib=$(echo "$root"/usr/lib/*/nbdkit)
start nbdkit -f -U "$tmp/socket" --filter="$lib/filters/nbdkit-delay-filter.so" \
      "$lib/plugins/nbdkit-memory-plugin.so" 1M delay-read=60
until_socket "$tmp/socket"

result=$(PYTHONPATH=$root/usr/lib/python3/dist-packages \
         /usr/bin/python3 - "$tmp/socket" "${pids[-1]}" <<'END'
import errno, nbd, os, signal, sys

h = nbd.NBD()

def name_of(action):
    try:
        action()
    except nbd.Error as e:
        return e.errno or "none"
    return "success"

never = name_of(lambda: h.aio_pread(nbd.Buffer(512), 0))
h.connect_unix(sys.argv[1])
cookie = h.aio_pread(nbd.Buffer(512), 0)
os.kill(int(sys.argv[2]), signal.SIGKILL)
while not h.aio_is_dead() and not h.aio_is_closed():
    if name_of(lambda: h.poll(-1)) != "success":
        break
under_way = name_of(lambda: h.aio_command_completed(cookie))
print("never connected: %s; under way: %s; next: %s" %
      (never, under_way, name_of(lambda: h.aio_pread(nbd.Buffer(512), 0))))
END
)
seen "never connected: ENOTCONN; under way: ENOTCONN; next: EINVAL" "$result"
