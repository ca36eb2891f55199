# SPDX-License-Identifier: BSD-3-Clause
#
# Of all runs (converge.sh), as an array: what converge.json holds.  Windows are
# those of move.sh.

include "table";

def figures:
  . + {
    id: [.seed, .round],
    seconds: .["until-done"].seconds,
    sent: (.sent_bytes /
           (.disk_bytes + .["until-done"].requests * .request_bytes)),
    iops: (.["until-done"].requests / .["until-done"].seconds),
    p99_ms: .move.p99_ms, stall_ms: .move.longest_ms, cut_ms: .cut.longest_ms
  };

# Only what has ended can be compared; whether it has is always there.
def alone($what):
  if $what == "ended" then map(if .ended then 1 else 0 end)
  else map(select(.ended) | .[$what]) end;

# Pairs of one round.
def ratios($theirs; $what):
  {time: "seconds", iops: "iops", stall: "stall_ms"}[$what] as $figure |
  [.[] | select(.ended) | . as $a |
   $theirs[] | select(.ended and .id == $a.id) | $a[$figure] / .[$figure]];

def of($load; $program):
  map(select(.load == $load and .program == $program));

($targets | targets) as $targets |
map(figures) as $runs |
($runs | map(.load) | unique) as $seen |
["random-20", "random-60", "random", "sequential", "hot"] as $order |
(($order - ($order - $seen)) + ($seen - $order)) as $loads |
($runs | map(.program) | unique | sort_by(. != "nbdmigrate")) as $programs |
{
  nbdkit: $nbdkit, qemu: $qemu, kernel: $kernel, cpus: $cpus,
  table: [
    $loads[] as $load | ($runs | of($load; "nbdmigrate")) as $ours |
    select($ours != []) |
    (("ended", "sent", "p99_ms", "stall_ms") as $what |
     $ours | alone($what) |
     line($load; "-"; $what; ($targets | target_of($load; "-"; $what));
          if $what == "ended" or $what == "stall_ms" then "worst"
          else "median" end)),
    (($programs - ["nbdmigrate"])[] as $rival |
     ("time", "iops", "stall") as $what |
     ($runs | of($load; $rival)) as $theirs | select($theirs != []) |
     $ours | ratios($theirs; $what) |
     line($load; $rival; $what; ($targets | target_of($load; $rival; $what));
          "median"))
  ],
  programs: [
    $loads[] as $load | $programs[] as $program |
    $runs | of($load; $program) | select(. != []) |
    {load: $load, program: $program, rounds: length,
     ended: (map(select(.ended)) | length)} +
    ([("seconds", "sent", "iops", "p99_ms", "stall_ms", "cut_ms") as $f |
      {($f): (map(.[$f] | values) | median)}] | add)
  ],
  runs: ($runs | map(del(.id)))
}
