#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# scale.sh: what the size of a disk costs.  The same data, scattered over
# a large sparse disk and over a small one, are copied in turn.  Printed are
# the time until the bulk pass begins, the time of all, and the median of the
# ratios large : small (wanted: below 1.5, and a start below 2 s).
#
#   ROUNDS=N         (default 3)
#   LARGE=SIZE       (default 8T)      SMALL=SIZE (default 2G)
#   DATA=MIB         (default 1024)
#   PIECES="KIB ..." lengths of the pieces of data (default "64 1024")

set -euo pipefail

TMPDIR=${TMPDIR:-/var/tmp}
export TMPDIR
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh" > /dev/null
requires nbdkit jq

rounds=${ROUNDS:-3}
large=${LARGE:-8T}
small=${SMALL:-2G}
data=${DATA:-1024}

# make_source NAME SIZE KIB: a sparse file with the data.  On a small disk the
# pieces need some room around them.
make_source ()
{
  truncate -s "$2" "$tmp/$1"
  "$BUILD/tests/scatter" "$tmp/$1" $((data * 7 * 128 / $3)) \
    $(($3 * 1024)) 1
}

# copy SOURCE SIZE OPTION...: sets $start_ms and $all_ms.
copy ()
{
  local source=$1 size=$2 begin

  shift 2
  rm -rf "$tmp/copy" "$tmp/proxy.dir"
  truncate -s "$size" "$tmp/copy"
  start_proxy proxy file "$tmp/$source"
  start_nbdkit destination file "$tmp/copy"
  begin=$(date +%s.%6N)
  must_migrate --finish=detach "$@" "$(uri proxy)" "$(uri destination)"
  start_ms=$(event "(map(select(.event == \"started\")) | last.time - $begin) *
                    1000 | round")
  all_ms=$(completed duration_ms)
  end_bg proxy
  end_bg destination
}

# compare OPTION...
compare ()
{
  local i ratios=() starts=() larges=() smalls=()

  for ((i = 0; i < rounds; i++)); do
    copy large "$large" "$@"
    larges+=("$all_ms")
    starts+=("$start_ms")
    copy small "$small" "$@"
    smalls+=("$all_ms")
    ratios+=("$(awk "BEGIN { print ${larges[i]} / ${smalls[i]} }")")
  done
  printf '%-22s %8.0f %10.0f %10.0f %8.2f\n' "${*:-(holes are zeroed)}" \
    "$(median "${starts[@]}")" "$(median "${larges[@]}")" \
    "$(median "${smalls[@]}")" "$(median "${ratios[@]}")"
}

for piece in ${PIECES:-64 1024}; do
  echo "== $data MiB of data in pieces of $piece KiB on $large and on $small"
  make_source large "$large" "$piece"
  make_source small "$small" "$piece"
  printf '%-22s %8s %10s %10s %8s\n' "" "start ms" "$large ms" "$small ms" \
    ratio
  compare
  compare --destination-is-zero
  rm "$tmp/large" "$tmp/small"
done
