# SPDX-License-Identifier: BSD-3-Clause
#
# What the reports of the benchmark share (jq -L, include "table").

# Of no numbers: null.
def median:
  sort |
  if length == 0 then null
  elif length % 2 == 1 then .[length / 2 | floor]
  else (.[length / 2] + .[length / 2 - 1]) / 2 end;

# The smallest number that so many percent do not exceed.
def percentile($percent):
  sort | if length == 0 then null
         else .[[(length * $percent / 100 | ceil) - 1, 0] | max] end;

# Lines of words, as arrays.
def words: split("\n") | map(select(test("\\S")) | [splits(" +")] |
                             map(select(. != "")));

# Lines "ROW AGAINST WHAT RELATION VALUE" as objects.
def targets: words | map({row: .[0], against: .[1], what: .[2],
                          relation: .[3], target: (.[4] | tonumber)});

def target_of($row; $against; $what):
  map(select(.row == $row and .against == $against and .what == $what)) | first;

# Values of one kind as a line of the table.  What is judged is the median, or
# the worst of them.  Without any value the target is not met.
def line($row; $against; $what; $target; $judged):
  {row: $row, against: $against, what: $what, median: median, lowest: min,
   highest: max, rounds: length} +
  if $target == null then {} else
    {relation: $target.relation, target: $target.target,
     met: (if length == 0 then false
           elif $target.relation == ">="
           then (if $judged == "median" then median else min end) >= $target.target
           else (if $judged == "median" then median else max end) <= $target.target
           end)} end;
