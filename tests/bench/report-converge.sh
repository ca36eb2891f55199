#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# report-converge.sh DIR: of the runs in DIR/converge.jsonl (converge.sh) the
# table on standard output, and DIR/converge.json.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/bench/table.sh
source "$here/table.sh"
out=$1

# Of nbdmigrate alone:
#   ended     1, or 0: it gave up
#   sent      bytes that the destination's server wrote until the end, in units
#             of those that there were: the disk and what the guest wrote meanwhile
#   p99_ms    of the guest's waits during the move
#   stall_ms  the longest of them; the limit is the default of --max-pause
# In units of the rival's:
#   time      until the program ended
#   iops      of the guest meanwhile
#   stall     the longest wait
converge_targets='
random-20   -                      ended     >=  1
random-20   -                      sent      <=  1.1
random-20   -                      p99_ms    <=  2
random-20   -                      stall_ms  <=  300
random-20   mirror-write-blocking  stall     <=  0.33
random-60   -                      ended     >=  1
random-60   -                      sent      <=  1.3
random-60   -                      stall_ms  <=  300
random-60   mirror-write-blocking  time      <=  0.6
random-60   mirror-write-blocking  stall     <=  0.33
random      -                      ended     >=  1
random      -                      sent      <=  1.5
random      -                      stall_ms  <=  300
random      mirror-write-blocking  time      <=  0.7
random      mirror-write-blocking  iops      >=  1.3
random      mirror-write-blocking  stall     <=  0.33
sequential  -                      ended     >=  1
sequential  -                      sent      <=  1.2
sequential  -                      stall_ms  <=  300
sequential  mirror-write-blocking  stall     <=  0.33
hot         -                      ended     >=  1
hot         -                      sent      <=  1.2
hot         -                      stall_ms  <=  300
hot         mirror-write-blocking  stall     <=  0.33
'

jq -s -L "$here" --arg targets "$converge_targets" "${machine[@]}" \
  -f "$here/report-converge.jq" "$out/converge.jsonl" > "$out/converge.json"

print_table "$out/converge.json"
echo
print_columns "$out/converge.json" '
  ["load", "program", "ended", "s", "sent", "guest IOPS", "99 % ms",
   "longest ms", "at the cut-over"],
  (.programs[] | [.load, .program, "\(.ended) of \(.rounds)", (.seconds | two),
                  (.sent | two), (.iops | round), (.p99_ms | two),
                  (.stall_ms | two), (.cut_ms | two)])'
echo "(medians; the rest of it is in $out/converge.json)"
