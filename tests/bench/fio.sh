# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# What the parts of the benchmark share that have a guest: fio, and medians of
# ratios.  Sourced after tests/functions.sh.

requires nbdkit jq fio

seconds=1.5 # of one measurement
# shellcheck disable=SC2034 # used by the parts
rounds=${ROUNDS:-5}

# ---- arithmetic ------------------------------------------------------------

# calculate EXPRESSION, with two decimals
calculate ()
{
  awk "BEGIN { printf \"%.2f\", $1 }"
}

# ratios LIST LIST: of the numbers of two lists, in order.
ratios ()
{
  local a b i

  read -r -a a <<< "$1"
  read -r -a b <<< "$2"
  for i in "${!a[@]}"; do
    calculate "${a[i]} / ${b[i]}"
    echo
  done
}

# median_ratio LIST LIST
median_ratio ()
{
  # shellcheck disable=SC2046 # numbers
  median $(ratios "$1" "$2")
}

# ratio_range LIST LIST: the median, the smallest and the largest.
ratio_range ()
{
  local all

  all=$(ratios "$1" "$2" | sort -g)
  # shellcheck disable=SC2086 # numbers
  echo "$(median $all) ($(head -n 1 <<< "$all") to $(tail -n 1 <<< "$all"))"
}

# ---- fio -------------------------------------------------------------------

# fio_on URI ARGUMENT...: its first job's result, as JSON.
fio_on ()
{
  local uri=$1

  shift
  fio --name=guest --ioengine=nbd --uri="$uri" --norandommap --time_based \
    --runtime="$seconds" --randseed="$seed" --output-format=json "$@" |
    sed -n '/^{/,$p' | jq '.jobs[0]'
}
