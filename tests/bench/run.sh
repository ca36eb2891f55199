#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# run.sh [ROW|PART ...]: figures, side by side with what else there is; without
# any, all of them.  Absolute figures drift by two times within minutes.  So
# what is compared runs in turn, in random order, after one round that does not
# count; what counts is the median of the ratios of the rounds, printed with
# their range, and after each copy both disks are compared.
#
# Rows are copies of disks nobody writes to (rows.sh).  They have targets; the
# table says met or not met, and the exit status is 0 either way.
#
#   dense-file dense-memory dense-qcow2 dense-tcp dense-tls
#   away-5ms away-20ms away-50ms sparse-32g sparse-8t disks-8
#
# Parts, of which pause and converge have targets, too:
#
#   guest  guest requests of 4 KiB through a proxy, when nothing is moved and
#          while changes are tracked, against plain nbdkit
#   background  what a guest keeps while the bulk is copied, by --background
#   relay  guest IOPS and bandwidth after a pivot, against `nbdkit nbd`
#   pause  the longest wait of a guest at a cut-over, idle and under three
#          loads, against blockdev-mirror and job-complete of
#          qemu-storage-daemon; a table, pause.json and pause.svg
#   converge  a disk is moved under five loads: does it end, bytes sent, time,
#          guest IOPS and its longest wait, against the same; a table and
#          converge.json
#   scale  the same data on a large and on a small disk
#
#   ROUNDS=N        (default 5; converge and scale: 3)
#   SIZE=SIZE       of the dense disks (default 2G); parts say what they take
#   PROGRAMS='...'  the rivals to run (programs.sh; default: all of the row)
#   SEED=N          the order of a run before
#   OUT=DIR         for the results: each row's runs, bench.json with the
#                   table, bench.svg (default build/bench).  report.sh DIR
#                   prints the table of all rows that are there
#   BENCH_DIR=DIR   where the disks of rows, pause and converge are (default
#                   /dev/shm; 5 GiB for 2 GiB disks).  Other parts use TMPDIR

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/bench/rows.sh
source "$here/rows.sh"
parts=(guest background relay pause converge scale)
out=${OUT:-${BUILD:?the directory that make built into}/bench}
mkdir -p "$out"

# is_one_of WORD WORD...
is_one_of ()
{
  local word=$1 w

  shift
  for w; do
    [ "$w" != "$word" ] || return 0
  done
  return 1
}

[ $# -gt 0 ] || set -- "${all_rows[@]}" "${parts[@]}"
for what; do
  is_one_of "$what" "${all_rows[@]}" "${parts[@]}" || {
    echo "run.sh: there is no row or part $what" >&2
    exit 2
  }
done

done_rows=()
for what; do
  if is_one_of "$what" "${all_rows[@]}"; then
    OUT=$out "$here/row.sh" "$what"
    done_rows+=("$what")
  else
    OUT=$out "$here/$what.sh"
  fi
done
[ ${#done_rows[@]} -eq 0 ] || "$here/report.sh" "$out" "${done_rows[@]}"
