# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# A guest that does what it is told, a word a line, and answers in a line each, in
# front of a disk that forgets what was not flushed (nbdkit-lossy-plugin).  Sourced
# after tests/functions.sh.
# shellcheck disable=SC2034

requires nbdkit jq
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

lossy=$BUILD/tests/nbdkit-lossy-plugin.so
failed="Input/output error"

# Such a guest, on stdin and stdout: "${told_guest[@]}" URI [BLOCK]; it writes so many
# bytes, or 64K, at a time.
told_guest=(/usr/bin/python3 "$tmp/told-guest.py")

cat > "$tmp/told-guest.py" <<'END'
import os, sys
import nbd

h = nbd.NBD ()
h.connect_uri (sys.argv[1])
block = int (sys.argv[2]) if len (sys.argv) > 2 else 65536

def do (what, letter):
    if what == "write":
        h.pwrite (letter.encode () * block, 2 * block)
    elif what == "fua":
        h.pwrite (b"y" * block, 4 * block, nbd.CMD_FLAG_FUA)
    elif what == "zero":
        h.zero (block, 3 * block)
    elif what == "read":
        return "%s %s" % (h.pread (block, 2 * block)[:1].decode (),
                          h.pread (block, 3 * block)[:1] == b"\0")
    elif what == "mark":
        h.pwrite (b"m" * block, 128 * block)
        h.flush ()
    elif what == "flush":
        h.flush ()
    else:
        sys.exit ("the guest does not know: " + what)
    return "ok"

for line in sys.stdin:
    what, _, letter = line.strip ().partition (" ")
    if what == "end":
        break
    try:
        print (do (what, letter or "x"), flush=True)
    except nbd.Error as e:
        print (os.strerror (e.errnum), flush=True)
END
