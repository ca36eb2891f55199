# SPDX-License-Identifier: BSD-3-Clause
#
# The samples as columns for gnuplot: time in the plots' unit, bytes per second
# copied and made dirty, bytes left, and in seconds: predicted pause, its limit, mean
# and 99 % of reads, mean and 99 % of writes.  What is not known is "?".

def or_missing: if . == null then "?" else tostring end;
def above_zero: if . != null and . > 0 then . else null end;
def scaled($by): if . == null then null else . / $by end;

.unit.seconds as $unit
| .samples[]
| [ (.[0] / $unit), .[1], .[2], (.[3] | above_zero),
    (.[4] | above_zero | scaled(1000)), (.[5] | scaled(1000)),
    (.[6:][] | above_zero | scaled(1e6)) ]
| map(or_missing) | join(" ")
