#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# nbdkit zeroes only the first 64 MiB when a plugin declines at run time.
#
# Software:  nbdkit 1.32.5 (Debian 12); the same was seen with 1.42.3, and 1.48.1
#            is right (the release notes of 1.44.1 name the repair)
# Behaviour: a plugin that has a zero function may say EOPNOTSUPP when it is
#            called, and nbdkit then writes zeroes itself.  For a request of 128
#            MiB it writes 64 MiB and answers success.  'nbdkit file' does so on
#            file systems whose fallocate can neither punch nor zero.
# Why it surprises: what the plugin manual says about EOPNOTSUPP has no limit,
#            and the length is within what the server accepts.
# What follows: never ask any server to zero more than 64 MiB at once; a filter
#            must split its own calls of next->zero as well.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.32.5-1

plugin=$(echo "$root"/usr/lib/*/nbdkit/plugins/nbdkit-eval-plugin.so)
truncate -s 128M "$tmp/disk"
export disk=$tmp/disk
# shellcheck disable=SC2016 # the plugin's shell expands these
start nbdkit -f -U "$tmp/socket" "$plugin" \
      get_size='stat -c %s $disk' \
      pread='dd if=$disk skip=$4 count=$3 iflag=skip_bytes,count_bytes status=none' \
      pwrite='dd of=$disk seek=$4 oflag=seek_bytes conv=notrunc status=none' \
      can_write='exit 0' can_zero='exit 0' \
      zero='echo EOPNOTSUPP >&2; exit 1'
until_socket "$tmp/socket"

result=$(client "$tmp/socket" <<'END'
import sys
from client import Client

c = Client(sys.argv[1])
MIB = 1 << 20
for at in range(0, 128, 16):
    c.write(at * MIB, b"\xff" * 16 * MIB)
c.zero(0, 128 * MIB)
left = [at for at in range(0, 128, 16) if any(c.read(at * MIB, 16 * MIB))]
print("success; not zero from %d MiB to %d MiB" % (left[0], left[-1] + 16)
      if left else "success; all zero")
c.disconnect()
END
)
seen "success; not zero from 64 MiB to 128 MiB" "$result"
