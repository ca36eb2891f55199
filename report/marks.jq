# SPDX-License-Identifier: BSD-3-Clause
#
# What gnuplot is told besides: numbers, and words of ours, only.

def rate_unit:
  if . < 1048576 then {name: "KiB/s", scale: 1024}
  elif . < 4 * 1073741824 then {name: "MiB/s", scale: 1048576}
  else {name: "GiB/s", scale: 1073741824} end;

.unit as $unit
| ([.samples[][1, 2] | numbers] | max // 0 | rate_unit) as $rate
| ([.phases.shown[], (.pauses.shown[] | .phase = "pause")]
   | map(select(.phase == "dirty" or .phase == "pause" or .phase == "reconnect" or
                .phase == "ready"))
   | map(select(.at > 0)) | .[:60]) as $marks
| "unit = \"\($unit.name)\"",
  "rate_unit = \"\($rate.name)\"",
  "rate_scale = \($rate.scale).0",
  "end = \([.seconds / $unit.seconds, 0.001] | max)",
  ($marks[]
   | "set arrow from \(.at / $unit.seconds), graph 0 to \(.at / $unit.seconds), graph 1" +
     " nohead back dashtype \(if .phase == "pause" then "solid" else "\"-\"" end) lc rgb \"gray\"")
