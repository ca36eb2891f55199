#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A flush fails whose guest has gone before the answer, as one does that connects
# again: nobody has heard of what was lost, so the next flush fails (R13).
#
# timeout: 60

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

size=$((1024 * 1024))
failed="Input/output error"

# A guest that writes, begins to flush, and is gone when the server has that.
cat > "$tmp/leaves.py" <<'END'
import os, sys, time
import nbd

h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pwrite (b"x" * 4096, 0)
h.aio_flush ()
while os.path.exists (sys.argv[2]):
    time.sleep (0.01)
os._exit (0)
END

cat > "$tmp/flushes.py" <<'END'
import os, sys
import nbd

h = nbd.NBD ()
h.connect_uri (sys.argv[1])
for n in range (int (sys.argv[2])):
    try:
        h.flush ()
        print ("ok")
    except nbd.Error as e:
        print (os.strerror (e.errnum))
END

# flushes TIMES ANSWERS: of a guest that connects now.
flushes ()
{
  local answers

  answers=$(/usr/bin/python3 "$tmp/flushes.py" "$(uri proxy)" "$1" | paste -sd ,)
  [ "$answers" = "$2" ] || fail "$answers instead of $2"
}

truncate -s $size "$tmp/disk"
start_nbdkit destination "$BUILD/tests/nbdkit-lossy-plugin.so" \
  file="$tmp/disk" fail-flush-when="$tmp/when"
start_proxy proxy memory $size
must_migrate "$(uri proxy)" "$(uri destination)"
flushes 1 ok

touch "$tmp/when.late" "$tmp/when"
/usr/bin/python3 "$tmp/leaves.py" "$(uri proxy)" "$tmp/when.late"
touch "$tmp/when.answer"
wait_for has_status "$(uri proxy)" '.relay.requests_in_flight == 0'
flushes 2 "$failed,ok"
flushes 1 ok
end_bg proxy
start_proxy proxy memory $size
flushes 1 ok
end_bg proxy
