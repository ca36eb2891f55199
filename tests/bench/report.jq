# SPDX-License-Identifier: BSD-3-Clause
#
# Of all runs (row.sh), as an array: what bench.json holds.

include "table";

($targets | targets) as $speed |
($memory | words | map({what: .[0], relation: .[1],
                        target: (.[2] | tonumber)})) as $limits |

def cpu_seconds: .cpu | add;

# The runs of a row, as an object of programs, each by round.
def by_program: group_by(.program) |
  map({key: .[0].program, value: sort_by(.round)}) | from_entries;

# Of nbdmigrate's runs and a rival's, pair by pair.
def compare($ours; $row; $against):
  (. as $theirs | [range(0; $ours | length)] |
   map({a: $ours[.], b: $theirs[.]})) as $pairs |
  ("speed", "cpu") as $what |
  $pairs |
  map(if $what == "speed" then .b.seconds / .a.seconds
      else (.a | cpu_seconds) / (.b | cpu_seconds) end) |
  line($row; $against; $what; ($speed | target_of($row; $against; $what));
       "median");

def memory($row):
  . as $ours | $limits[] as $limit | $ours |
  map(if $limit.what == "ring_mib" then .shared_kib
      else .peak_kib - .shared_kib end / 1024) |
  line($row; "-"; $limit.what; $limit; "worst");

map(select(.round > 0)) | group_by(.row) |
  sort_by(.[0].row as $row | $order | split(" ") | index($row)) |
  map(by_program) as $rows |
{
  nbdkit: $nbdkit, nbdcopy: $nbdcopy, qemu: $qemu, kernel: $kernel, cpus: $cpus,
  table: [
    $rows[] | .nbdmigrate as $ours | $ours[0].row as $row |
    (to_entries[] | select(.key != "nbdmigrate") | .key as $rival | .value |
     compare($ours; $row; $rival)),
    ($ours | memory($row))
  ],
  programs: [
    $rows[][] |
    {row: .[0].row, program: .[0].program, seconds: (map(.seconds) | median),
     cpu: (map(cpu_seconds) | median), client: (map(.cpu.client) | median),
     source: (map(.cpu.source) | median),
     destination: (map(.cpu.destination) | median)}
  ],
  runs: [$rows[][][]]
}
