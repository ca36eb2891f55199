#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A guest connects while the disk is elsewhere, where it is offered everything,
# and then the disk comes back to a plugin that lacks what was offered: trim,
# zero, FUA, cache, extents, long requests.  The guest goes on.  A plugin that
# serves whole blocks only is not moved back to.
#
# timeout: 60

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit jq
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

size=$((4 * 1024 * 1024))
P=$(uri proxy)
truncate -s $size "$tmp/local" "$tmp/a"
mkdir "$tmp/local.cue"
lacking=(--filter=nozero --filter=nocache --filter=noextents
  "$BUILD/tests/nbdkit-late-plugin.so" file="$tmp/local" cue="$tmp/local.cue"
  trim=0 fua=0 zeromode=none cachemode=none)
blocks=(--filter=blocksize-policy file "$tmp/local" blocksize-minimum=4096
  blocksize-preferred=4096 blocksize-maximum=65536)
short=(--filter=blocksize-policy file "$tmp/local" blocksize-maximum=65536
  blocksize-preferred=4096 blocksize-minimum=1 blocksize-error-policy=error)

cat > "$tmp/guest.py" <<'END_OF_GUEST'
import sys
import nbd

h = nbd.NBD ()
h.add_meta_context (nbd.CONTEXT_BASE_ALLOCATION)
h.connect_uri (sys.argv[1])
want = bytearray (h.get_size ())
want[0:1000] = b"a" * 1000
h.pwrite (b"a" * 1000, 0)
print ("connected", h.get_block_size (nbd.SIZE_MINIMUM), flush=True)
if open (sys.argv[2]).readline () != "go\n":
    sys.exit (0)

def fill (start, count, byte):
    want[start:start + count] = byte * count

def same ():
    assert h.pread (len (want), 0) == want

h.pwrite (b"b" * 300000, 1001, nbd.CMD_FLAG_FUA)
fill (1001, 300000, b"b")
same ()
h.trim (4096, 2048, nbd.CMD_FLAG_FUA)
want[2048:2048 + 4096] = h.pread (4096, 2048)
h.zero (200001, 3333, nbd.CMD_FLAG_FUA)
fill (3333, 200001, b"\0")
same ()
h.zero (10000, 100, nbd.CMD_FLAG_NO_HOLE)
fill (100, 10000, b"\0")
same ()
try:
    h.zero (70000, 200, nbd.CMD_FLAG_FAST_ZERO)
    fill (200, 70000, b"\0")
except nbd.Error as e:
    assert e.errno == "EOPNOTSUPP" or e.errno == "ENOTSUP", e
same ()
h.cache (65536, 0)
h.block_status (65536, 0, lambda *args: 0)
h.flush ()
print ("done")
END_OF_GUEST

# elsewhere ARGUMENT...: the disk is at a, the proxy, whose plugin this is, has
# been started then, and a guest has connected.
elsewhere ()
{
  start_proxy proxy "$@"
  start_nbdkit a file "$tmp/a"
  must_migrate "$P" "$(uri a)"
  end_bg proxy
  start_proxy proxy "$@"
  rm -f "$tmp/to"
  mkfifo "$tmp/to"
  start_bg guest /usr/bin/python3 "$tmp/guest.py" "$P" "$tmp/to"
  exec 3> "$tmp/to"
  wait_for grep -q connected "$tmp/guest.out"
}

# over: and nothing is left of it.
over ()
{
  exec 3>&-
  wait_bg guest
  end_bg proxy
  end_bg a
  rm -rf "$tmp/proxy.dir"
}

# goes_on ARGUMENT...: the disk comes back, and the guest gets all it asks for.
goes_on ()
{
  elsewhere "$@"
  must_migrate "$P" local:
  echo go >&3
  over
  grep -q "done" "$tmp/guest.out"
}

echo "-- nothing is offered but to read, write and flush"
goes_on "${lacking[@]}"
echo "-- short requests only"
goes_on "${short[@]}"

echo "-- blocks of 4 KiB, of which the guest does not know"
elsewhere "${blocks[@]}"
expect_status 1 migrate "$P" local:
grep -q 'blocks of 4096 bytes' "$tmp/migrate.log" "$tmp/proxy.log" ||
  fail "nothing is said of the blocks"
over
