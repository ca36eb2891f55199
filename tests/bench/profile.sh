#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# profile.sh ROW [PROGRAM]: where the CPU seconds of one copy go, for each
# process by system call and by what is done there (profile.py).  PROGRAM is
# nbdmigrate, or one of tests/bench/programs.sh.  Needs perf and the right to
# profile the kernel.  SIZE, BENCH_DIR as for run.sh.

set -euo pipefail

TMPDIR=${BENCH_DIR:-/dev/shm}
[ -d "$TMPDIR" ] || TMPDIR=/var/tmp
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/bench/rows.sh
source "$SRCDIR/tests/bench/rows.sh"
# shellcheck source=tests/bench/servers.sh
source "$SRCDIR/tests/bench/servers.sh"
# shellcheck source=tests/bench/programs.sh
source "$SRCDIR/tests/bench/programs.sh"
requires nbdkit perf python3

program=${2:-nbdmigrate}
hertz=2000

describe_row "$1"
make_source
start_destination
start_source "$program"
command_for "$program"
perf record -q -g -a -e cpu-clock -F $hertz -o "$tmp/perf.data" -- \
  "${command[@]}" > "$tmp/$program.out" 2> "$tmp/$program.log" ||
  fail "$program, or perf: $(cat "$tmp/$program.log")"
must_be_copied
perf script -i "$tmp/perf.data" -F comm,pid,ip,sym,dso 2> /dev/null |
  /usr/bin/python3 "$SRCDIR/tests/bench/profile.py" $hertz \
    "source=${pids[source]}" "destination=${pids[destination]}" \
    "$(basename "${command[0]}")="
stop_source
stop_destination
