#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# report.sh DIR [ROW ...]: of the runs in DIR (row.sh; all of them, or these
# rows) the table on standard output, DIR/bench.json and DIR/bench.svg.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/bench/rows.sh
source "$here/rows.sh"
# shellcheck source=tests/bench/table.sh
source "$here/table.sh"
out=$1
shift
if [ $# -eq 0 ]; then
  for row in "${all_rows[@]}"; do
    [ ! -s "$out/$row.jsonl" ] || set -- "$@" "$row"
  done
fi

row_files=("${@/#/$out/}")
row_files=("${row_files[@]/%/.jsonl}")

jq -s -L "$here" --arg targets "$targets" --arg memory "$memory_targets" \
  --arg order "$*" "${machine[@]}" \
  -f "$here/report.jq" "${row_files[@]}" > "$out/bench.json"

print_table "$out/bench.json"
echo
print_columns "$out/bench.json" '
  ["row", "program", "s", "CPU s", "of it client", "source", "destination"],
  (.programs[] | [.row, .program, (.seconds | two), (.cpu | two),
                  (.client | two), (.source | two), (.destination | two)])'
echo "(medians; the rest of it is in $out/bench.json)"

if ! command -v gnuplot > /dev/null; then
  echo "SKIP: no picture: there is no gnuplot"
  exit 0
fi
jq -r '.table | map(select(.what == "speed")) | to_entries[] |
  [.key, "\(.value.row) : \(.value.against)", .value.median, .value.lowest,
   .value.highest, (.value.target // "NaN")] | @tsv' "$out/bench.json" \
  > "$out/bench.tsv"
gnuplot -e "data='$out/bench.tsv'; picture='$out/bench.svg'" \
  "$here/report.gnuplot"
echo "(picture: $out/bench.svg)"
