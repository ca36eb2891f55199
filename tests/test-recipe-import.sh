#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/recipes.md, "A server that imports by NBD": a client that asks for block status
# and reads object by object over one connection, as Ceph's import does, gets the disk
# from the proxy whose guest is down, before and after a pivot; and from a copy of one
# instant while the guest runs.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdsh cmp
PATH=/usr/bin:$PATH # nbdsh wants the distribution's Python
nbdsh -c 'exit (0)' 2> "$tmp/nbdsh.log" || skip "nbdsh does not run"
use_disk

# What is said to be zero is not read, so it has to be.
cat > "$tmp/import.py" <<'END'
import os
import sys

OBJECT = 4 << 20
out = open (os.environ["IMPORT_TO"], "wb")
h.add_meta_context (nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri (os.environ["IMPORT_FROM"])
size = h.get_size ()
out.truncate (size)
read = 0
for begin in range (0, size, OBJECT):
    end = min (begin + OBJECT, size)
    zeroes = []

    def extent (context, offset, entries, error):
        if context == nbd.CONTEXT_BASE_ALLOCATION:
            for length, flags in zip (entries[::2], entries[1::2]):
                if flags & (nbd.STATE_HOLE | nbd.STATE_ZERO):
                    zeroes.append ((offset, min (offset + length, end)))
                offset += length

    h.block_status (end - begin, begin, extent)
    at = begin
    for first, last in zeroes + [(end, end)]:
        if at < first:
            out.seek (at)
            out.write (h.pread (first - at, at))
            read += first - at
        at = max (at, last)
h.shutdown ()
out.close ()
print (f"{read} of {size} bytes were read")
assert 0 < read < size
END

# import_from URI: to $on_disk/imported.
import_from ()
{
  IMPORT_FROM=$1 IMPORT_TO=$on_disk/imported nbdsh -c "$(cat "$tmp/import.py")"
}

size=$((30 * 1024 * 1024 + 512))
truncate -s $size "$on_disk/source" "$on_disk/destination" "$on_disk/copy"
start_proxy proxy file "$on_disk/source"
fill "$(uri proxy)" 30

echo "-- while the guest runs: from a copy of one instant"
start_nbdkit copy file "$on_disk/copy"
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 1M
must_migrate --finish=detach --destination-is-zero "$(uri proxy)" "$(uri copy)"
import_from "$(uri copy)"
cmp "$on_disk/copy" "$on_disk/imported"
verify_cut guest "$(uri copy)" --initial "$pattern"
stop_guest guest
end_bg copy

echo "-- from the proxy, whose guest is down"
import_from "$(uri proxy)"
cmp "$on_disk/source" "$on_disk/imported"

echo "-- and after a pivot"
start_nbdkit destination file "$on_disk/destination"
must_migrate --finish=pivot --destination-is-zero "$(uri proxy)" "$(uri destination)"
import_from "$(uri proxy)"
end_bg proxy
cmp "$on_disk/destination" "$on_disk/imported"
