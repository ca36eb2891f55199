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

echo "-- cut-overs that were made up"
# cut PROGRAM ENDED MS
cut ()
{
  echo "{\"round\": 0, \"seed\": 1, \"load\": \"random-20\", \"program\": \"$1\",
         \"ended\": $2, \"cut\": {\"longest_ms\": $3},
         \"after\": {\"longest_ms\": $3},
         \"control\": {\"longest_ms\": 0.5}}"
}
mkdir "$tmp/cuts"
{
  for i in {1..98}; do
    cut nbdmigrate true "$i"
  done
  cut nbdmigrate true 500
  cut nbdmigrate true 999
  cut mirror true 5
  cut mirror false null
} > "$tmp/cuts/pause.jsonl"
"$bench/report-pause.sh" "$tmp/cuts" > "$tmp/table"
says random-20 nbdmigrate 100 50.5 500 999 50.5 500 0.5 0.5 0
says random-20 mirror 1 5 5 5 5 5 0.5 0.5 1
says random-20 median_ms 50.5 '<= 2' NOT MET
! command -v gnuplot > /dev/null || grep -q '</svg>' "$tmp/cuts/pause.svg"

echo "-- moves that were made up"
# move PROGRAM ROUND ENDED SENT SECONDS LONGEST_MS
move ()
{
  echo "{\"round\": $2, \"seed\": 1, \"load\": \"random-60\", \"program\": \"$1\",
         \"ended\": $3, \"disk_bytes\": 900, \"request_bytes\": 10,
         \"sent_bytes\": $4, \"until-done\": {\"seconds\": $5, \"requests\": 10},
         \"move\": {\"p99_ms\": 1, \"longest_ms\": $6},
         \"cut\": {\"longest_ms\": 1}}"
}
mkdir "$tmp/moves"
{
  move nbdmigrate 0 true 1200 1 10
  move mirror-write-blocking 0 true 1000 2 100
  move nbdmigrate 1 false 9999 1 10
  move mirror-write-blocking 1 true 1000 100 1
  move nbdmigrate 2 true 1300 2 400
  move mirror-write-blocking 2 true 1000 2 100
} > "$tmp/moves/converge.jsonl"
"$bench/report-converge.sh" "$tmp/moves" > "$tmp/table"
cat "$tmp/table"
says random-60 - ended 1 0..1 '>=' 1 NOT MET
says random-60 - sent 1.25 1.2..1.3 '<=' 1.3 met
says random-60 - stall_ms 205 10..400 '<=' 300 NOT MET
says random-60 mirror-write-blocking time 0.75 0.5..1 '<=' 0.6 NOT MET
says random-60 mirror-write-blocking stall 2.05 0.1..4 '<=' 0.33 NOT MET

echo "-- one move of each kind"
export OUT=$tmp/out ROUNDS=1 PROGRAMS="nbdmigrate mirror-write-blocking" SIZE=16M
PAUSE_SIZE=16M LOADS=idle "$bench/pause.sh" > "$tmp/table"
cat "$tmp/table"
grep -q '^idle *nbdmigrate *1 ' "$tmp/table"
PROGRAMS=nbdmigrate LOADS=hot "$bench/converge.sh" > "$tmp/table"
jq -e '.runs | length == 1 and .[0]["until-done"].requests > 0 and
       .[0].sent_bytes >= .[0].disk_bytes' "$tmp/out/converge.json" > "$tmp/jq.out"

echo "-- a disk that is not moved is found out"
printf '#!/bin/sh\necho "{}"\n' > "$tmp/bin/nbdmigrate"
chmod +x "$tmp/bin/nbdmigrate"
mkdir "$tmp/other"
ln -s "$BUILD/tests" "$BUILD/nbdkit-migrate-filter.so" \
  "$tmp/bin/nbdmigrate" "$tmp/other/"
expect_status 1 env BUILD="$tmp/other" PROGRAMS=nbdmigrate LOADS=idle \
  PAUSE_SIZE=16M "$bench/pause.sh" > "$tmp/row.out" 2> "$tmp/row.err"
grep -q '"wrong_blocks":[1-9]' "$tmp/row.err" || fail "$(cat "$tmp/row.err")"
