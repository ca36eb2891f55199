#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 180
#
# The demonstration proves what it says it does, leaves nothing behind, also
# when it is interrupted or cannot work, and its exit status tells.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit setsid

# Its name is as good as any other.
export TMPDIR="$tmp/100 % of ä&b"
mkdir "$TMPDIR"
unset MAKEFLAGS MAKELEVEL
demo=("$SRCDIR/examples/demo.sh" --no-install --size=64M "--seed=$((seed % 1000))")

# Nothing is left: no file, and no process that was given one of them.
nothing_left ()
{
  [ -z "$(ls "$TMPDIR")" ] || fail "left behind: $(ls "$TMPDIR")"
  ! grep -lF "$TMPDIR/" /proc/[0-9]*/cmdline 2> /dev/null ||
    fail "a process is left"
}

echo "-- from beginning to end"
"${demo[@]}" > "$tmp/out" 2> "$tmp/demo.log" || fail "exit status $?"
cat "$tmp/out"
[ "$(wc -l < "$tmp/out")" -eq 5 ] || fail "the summary has not five lines"
grep -q "^Identical:  all 67108864 bytes" "$tmp/out"
grep -q "%" "$tmp/demo.log" || fail "there was no progress bar"
nothing_left

# interrupted SIGNAL STATUS
interrupted ()
{
  local status=0

  # The shell ignores SIGINT in what it runs in the background.
  start_bg "$1" env --default-signal=INT "${demo[@]}" --rate=4M
  wait_for is_copying "$1"
  kill_bg "$1" "$1"
  wait_bg "$1" || status=$?
  [ $status -eq "$2" ] || fail "$1: exit status $status"
  tr '\r' '\n' < "$tmp/$1.log" | tail -n 2
  [ "$(tail -n 1 "$tmp/$1.log")" = "demo: interrupted: removing everything" ] ||
    fail "$1: that is not the last line"
  # Of what was removed.  What it tells of the guest before that may come or not.
  ! grep -qE "nbdmigrate: .*(interrupted|authoritative|again)" "$tmp/$1.log" ||
    fail "$1: nbdmigrate advises"
  nothing_left
}

is_copying ()
{
  [ -e "$tmp/$1.log" ] && grep -q "bulk .*%" "$tmp/$1.log"
}

echo "-- interrupted"
interrupted INT 130
interrupted TERM 143

echo "-- built where there is nothing for unit tests"
cat > "$tmp/pkg-config" <<'END'
#!/bin/sh
case $* in
*cunit*) echo "asked for CUnit" >&2; exit 1 ;;
esac
exec pkg-config "$@"
END
chmod +x "$tmp/pkg-config"
make -C "$SRCDIR" -n PKG_CONFIG="$tmp/pkg-config" B="$tmp/none" demo-build \
  > "$tmp/make.out" 2> "$tmp/make.log" || fail "$(cat "$tmp/make.log")"
! grep CUnit "$tmp/make.log" || fail "it asks for what it does not need"

echo "-- help"
"${demo[@]}" --help > "$tmp/help" || fail "exit status $?"
head -n 1 "$tmp/help" | grep -q '^examples/demo.sh \[--no-install\]'
grep -q -- '--rate=SIZE' "$tmp/help"

echo "-- in vain"
expect_status 2 "${demo[@]}" --nonsense 2> "$tmp/usage.log"
expect_status 2 "${demo[@]}" --size=much 2> "$tmp/usage.log"
expect_status 1 "${demo[@]}" --size=1P 2> "$tmp/space.log"
grep -q "too little space" "$tmp/space.log"
TMPDIR=$tmp/none expect_status 1 "${demo[@]}" 2> "$tmp/none.log"
grep -q "^demo: .*none is no folder .*: set TMPDIR" "$tmp/none.log"
nothing_left
