# SPDX-License-Identifier: BSD-3-Clause
#
# Of all runs (pause.sh), as an array: what pause.json holds.  "cut" is the
# window of the cut-over, "after" the same and a while more, "control" as long as
# that, before the move.

include "table";

def in_order: reduce .[] as $x ([]; if index([$x]) then . else . + [$x] end);

def pauses($load; $program):
  map(select(.load == $load and .program == $program)) |
  select(length > 0) | . as $all | map(select(.ended)) |
  {load: $load, program: $program, cuts: length,
   not_ended: (($all | length) - length),
   median_ms: (map(.cut.longest_ms) | median),
   p99_ms: (map(.cut.longest_ms) | percentile(99)),
   longest_ms: (map(.cut.longest_ms) | max),
   after_median_ms: (map(.after.longest_ms) | median),
   after_p99_ms: (map(.after.longest_ms) | percentile(99)),
   control_median_ms: (map(.control.longest_ms) | median),
   control_p99_ms: (map(.control.longest_ms) | percentile(99)),
   waits_ms: (map(.cut.longest_ms) | sort)};

. as $runs |
(map(.load) | in_order) as $loads |
(map(.program) | unique | sort_by(. != "nbdmigrate")) as $programs |
[$loads[] as $load | $programs[] as $program |
 $runs | pauses($load; $program)] as $pauses |
{
  nbdkit: $nbdkit, qemu: $qemu, kernel: $kernel, cpus: $cpus,
  loads: $loads, programs: $programs, pauses: $pauses,
  table: [
    ($targets | targets)[] as $t | $pauses[] |
    select(.load == $t.row and .program == "nbdmigrate") |
    [.[$t.what] | values] | line($t.row; "-"; $t.what; $t; "worst")
  ],
  runs: $runs
}
