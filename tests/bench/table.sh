# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034
#
# What the reports of the benchmark share.  Sourced.

# version COMMAND...: the first line it says, if it is there.
version ()
{
  "$@" 2> /dev/null | head -n 1 || :
}

# On what it ran, as arguments of jq.
machine=(--arg nbdkit "$(version nbdkit --version)"
         --arg nbdcopy "$(version nbdcopy --version)"
         --arg qemu "$(version qemu-img --version)"
         --arg kernel "$(uname -r)" --argjson cpus "$(nproc)")

# print_columns FILE EXPRESSION: what the expression makes of it, arrays of the
# cells of a line.  "two" rounds a number to two decimals.
print_columns ()
{
  jq -r "def two: if . == null then \"\" else . * 100 | round / 100 | tostring end;
         $2 | @tsv" "$1" | column -t -s $'\t'
}

# print_table FILE: the member "table", lines with a median and a range, some of
# them with a target.
print_table ()
{
  # shellcheck disable=SC2016
  print_columns "$1" '
    ["row", "against", "what", "median", "range", "target", ""],
    (.table[] | [.row, .against, .what, (.median | two),
                 (if .median == null then "did not end"
                  else "\(.lowest | two)..\(.highest | two)" end),
                 (if .target then "\(.relation) \(.target | two)" else "" end),
                 (if .target == null then "" elif .met then "met"
                  else "NOT MET" end)])'
}
