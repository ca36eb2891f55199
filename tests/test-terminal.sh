#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What is shown fits into the terminal, be it narrow or low: the bar, status, status
# --watch, which puts each screen in the place of the one before and never clears it, and
# list.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq python3

# terminal.py COLUMNS ROWS SCREENS COMMAND...: print what it writes to a terminal of its
# own, until it ends, or is interrupted after so many screens of status --watch.
cat > "$tmp/terminal.py" <<'END'
import fcntl, os, pty, signal, struct, sys, termios
columns, rows, screens = map(int, sys.argv[1:4])
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(sys.argv[4], sys.argv[4:])
out = b""
while True:
    try:
        data = os.read(fd, 65536)
    except OSError:
        break
    if not data:
        break
    out += data
    if screens and out.count(b"\033[H") > screens:
        out = out[:out.rindex(b"\033[H")]
        os.kill(pid, signal.SIGINT)
        break
os.waitpid(pid, 0)
sys.stdout.buffer.write(out)
END

# in_terminal COLUMNS ROWS SCREENS COMMAND...: its output in $tmp/terminal, the lines that
# are to be seen in $tmp/lines: of several screens the last one's.
in_terminal ()
{
  python3 "$tmp/terminal.py" "$@" > "$tmp/terminal"
  # shellcheck disable=SC2016 # sed's
  tr -d '\r' < "$tmp/terminal" | sed -n 'H; ${x; s/.*\x1b\[H//; s/\x1b\[[0-9]*[JK]//g
    s/^\n//; p}' > "$tmp/lines"
}

# fits COLUMNS ROWS: but for what cannot be broken.
fits ()
{
  local line

  while IFS= read -r line; do
    [ ${#line} -le "$1" ] || [[ ${line:13} != *[[:blank:]]* ]] ||
      fail "longer than $1: '$line'"
  done < "$tmp/lines"
  [ "$(wc -l < "$tmp/lines")" -lt "$2" ] || fail "too many lines: $(cat "$tmp/lines")"
}

# In a directory whose name is long.
long=$tmp/a-directory-that-has-a-rather-long-name-for-a-directory
mkdir "$long"
start_nbdkit proxy --filter="$filter" memory 8M migrate-dir="$long/proxy.dir"
start_nbdkit destination memory 8M
S=$(uri proxy) D=$(uri destination)
fill "$S" 100
start_guest guest "$S" --initial "$pattern" --rate 1M

start_migrate --wait --finish=detach --max-pause=4s "$S" "$D"
wait_for is_ready
for size in "60 24" "80 24" "200 50" "40 10" "20 3"; do
  columns=${size% *} rows=${size#* }
  echo "-- status --watch in $columns columns and $rows rows"
  in_terminal "$columns" "$rows" 3 "$nbdmigrate" status --watch=100ms "$S"
  while IFS= read -r line; do
    [ ${#line} -le "$columns" ] || fail "longer than $columns: '$line'"
  done < "$tmp/lines"
  fits "$columns" "$rows"
  grep -q '^disk  *nbd' "$tmp/lines" || ((columns < 40)) || fail "which disk?"
  ((rows < 24)) || grep -q '^progress  *ready in sync' "$tmp/lines" ||
    fail "how far is it? $(cat "$tmp/lines")"
  [ "$(grep -o $'\e\\[2J' "$tmp/terminal" | wc -l)" -eq 1 ] || fail "it is cleared"
  ! grep -q $'\e\\[3J' "$tmp/terminal" || fail "what was above is gone"

  echo "-- status, list"
  in_terminal "$columns" 1000 0 "$nbdmigrate" status "$S"
  fits "$columns" 1000
  in_terminal "$columns" 1000 0 "$nbdmigrate" list
  grep -q "ready .*$long/proxy.dir" "$tmp/lines"
  grep -q "to $D" "$tmp/lines"
  ((columns >= 200)) || grep -q "^ *to $D" "$tmp/lines" || fail "not in two lines"
done
"$nbdmigrate" cancel "$S"
expect_status 3 wait_bg migrator

echo "-- the bar"
for columns in 60 80 200; do
  in_terminal "$columns" 24 0 "$nbdmigrate" --finish=detach --max-pause=4s --rate=8M \
    "$S" "$D"
  tr '\r' '\n' < "$tmp/terminal" | sed 's/\x1b\[[0-9]*[JK]//g' > "$tmp/bars"
  grep -qE '^(bulk|pass|final|done) ' "$tmp/bars" || fail "there is none"
  while IFS= read -r line; do
    [ ${#line} -lt "$columns" ] || fail "longer than $columns: '$line'"
  done < <(grep -E '^(connect|bulk|pass|final|done) ' "$tmp/bars")
done
stop_guest guest
end_bg proxy
