#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# report-pause.sh DIR: of the runs in DIR/pause.jsonl (pause.sh) the table on
# standard output, DIR/pause.json and DIR/pause.svg.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/bench/table.sh
source "$here/table.sh"
out=$1

# What the guest waits for at a cut-over, in ms (run.sh says how rows are read).
pause_targets='
random-20  -  median_ms  <=  2
random-20  -  p99_ms     <=  10
'

jq -s -L "$here" --arg targets "$pause_targets" "${machine[@]}" \
  -f "$here/report-pause.jq" "$out/pause.jsonl" > "$out/pause.json"

print_columns "$out/pause.json" '
  ["load", "program", "cut-overs", "median ms", "99 %", "longest",
   "after: median", "99 %", "control: median", "99 %", "did not end"],
  (.pauses[] | [.load, .program, .cuts, (.median_ms | two), (.p99_ms | two),
                (.longest_ms | two), (.after_median_ms | two),
                (.after_p99_ms | two), (.control_median_ms | two),
                (.control_p99_ms | two), .not_ended])'
echo
print_columns "$out/pause.json" '
  .table[] | [.row, .what, (.median | two), "\(.relation) \(.target)",
              if .met then "met" else "NOT MET" end]'
echo "(the longest wait of each cut-over is in $out/pause.json)"

if ! command -v gnuplot > /dev/null; then
  echo "SKIP: no picture: there is no gnuplot"
  exit 0
fi
# For each load and program the share of cut-overs that were not longer.
names=$(jq -r '.pauses | map("\(.load)/\(.program)") | join(" ")' "$out/pause.json")
mkdir -p "$out/pause.data"
for name in $names; do
  jq -r --arg name "$name" '
    .pauses[] | select("\(.load)/\(.program)" == $name) | .waits_ms |
    select(length > 0) |
    length as $n | [.[0], 0], (to_entries[] | [.value, (.key + 1) * 100 / $n]) |
    @tsv' \
    "$out/pause.json" > "$out/pause.data/${name/\//:}"
done
gnuplot -e "dir='$out/pause.data'; picture='$out/pause.svg'" \
  -e "loads='$(jq -r '.loads | join(" ")' "$out/pause.json")'" \
  -e "programs='$(jq -r '.programs | join(" ")' "$out/pause.json")'" \
  "$here/report-pause.gnuplot"
# It can be put beside docs/performance.md as it is.
sed -i '1a <!-- SPDX-License-Identifier: BSD-3-Clause -->' "$out/pause.svg"
echo "(picture: $out/pause.svg)"
