#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The benchmark (tests/bench/): what it makes of figures, and that it does not
# believe a copy.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdcopy column

bench=$SRCDIR/tests/bench
export SIZE=4M PROGRAMS=nbdcopy ROUNDS=2 BENCH_DIR=$tmp

echo "-- figures that were made up"
# run PROGRAM ROUND SECONDS CPU PEAK_KIB
run ()
{
  echo "{\"row\": \"dense-file\", \"program\": \"$1\", \"round\": $2,
         \"seconds\": $3, \"cpu\": {\"client\": $4, \"source\": 0.5,
         \"destination\": 0.5}, \"peak_kib\": $5, \"shared_kib\": 1024,
         \"faults\": 1, \"switches\": 1}"
}
mkdir "$tmp/made-up"
{
  run nbdmigrate 0 9 9 999999 # the warm-up
  run nbdcopy 0 1 1 1
  run nbdcopy 2 4 1 1
  run nbdmigrate 1 2 0 2048
  run nbdmigrate 2 2 1 51200
  run nbdcopy 1 2.5 1 1
  run nbdmigrate 3 2 1 2048
  run nbdcopy 3 3 1 1
} > "$tmp/made-up/dense-file.jsonl"
"$bench/report.sh" "$tmp/made-up" > "$tmp/table"
cat "$tmp/table"
# says WORD...: a line of the table, however wide its columns.
says ()
{
  sed 's/  */ /g; s/ $//' "$tmp/table" | grep -qxF -- "$*" ||
    fail "not in the table: $*"
}
says dense-file nbdcopy speed 1.5 1.25..2 '>=' 1.5 met
says dense-file nbdcopy cpu 1 0.5..1 '<=' 0.7 NOT MET
says dense-file - peak_mib 1 1..49 '<=' 48 NOT MET
says dense-file - ring_mib 1 1..1 '<=' 64 met

echo "-- the seed repeats the order"
# order OUT SEED
order ()
{
  mkdir -p "$tmp/$1"
  OUT=$tmp/$1 SEED=$2 "$bench/row.sh" dense-file > "$tmp/row.out"
  jq -r '"\(.round) \(.program)"' "$tmp/$1/dense-file.jsonl"
}
once=$(order once 7)
[ "$(wc -l <<< "$once")" -eq 6 ]
[ "$once" = "$(order again 7)" ] || fail "another order than that of its seed"

echo "-- a program that copies nothing is found out"
mkdir "$tmp/bin"
printf '#!/bin/sh\nexit 0\n' > "$tmp/bin/nbdcopy"
chmod +x "$tmp/bin/nbdcopy"
expect_status 1 env PATH="$tmp/bin:$PATH" OUT="$tmp/once" \
  "$bench/row.sh" dense-file > "$tmp/row.out" 2> "$tmp/row.err"
grep -qF 'the copy of disk 0 is not right' "$tmp/row.err"
