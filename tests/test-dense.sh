#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Of a large disk nobody is asked where there are holes before zeroes have been read:
# where there are none a plugin might look through all of it in vain.  The first hole
# is read in part, and all that comes after it is asked about.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

MiB=$((1024 * 1024))

# questions: how many the plugin was asked.
questions ()
{
  grep -c ' Extents ' "$tmp/requests" || :
}

# bytes_read FROM: behind there.
bytes_read ()
{
  local offset count n=0

  while read -r offset count; do
    ((offset < $1)) || n=$((n + count))
  done < <(sed -n 's/.* Read .*offset=\(0x[0-9a-f]*\) count=\(0x[0-9a-f]*\) .*/\1 \2/p' \
             "$tmp/requests")
  echo $n
}

# copy BYTES: that much data, and a hole up to 512 MiB.
copy ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/requests" "$tmp/source"
  yes 'no zero is in here' | head -c "$1" > "$tmp/source" || :
  [ "$1" -eq $((512 * MiB)) ] || truncate -s 512M "$tmp/source"
  start_proxy proxy --filter=log file "$tmp/source" logfile="$tmp/requests"
  start_nbdkit destination memory 512M
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  contents_are_equal
  end_bg proxy
  end_bg destination
}

contents_are_equal ()
{
  nbdcopy "$(uri destination)" - | cmp - "$tmp/source" || fail "they differ"
}

echo "-- data all over: nobody is asked"
copy $((512 * MiB))
[ "$(questions)" -eq 0 ] || fail "asked $(questions) times"

echo "-- a hole at the end: it is not read"
copy $((256 * MiB))
(($(questions) > 0)) || fail "not asked"
n=$(bytes_read $((256 * MiB)))
echo "$n bytes of it"
((n > 0 && n <= 64 * MiB)) || fail "$n bytes of the hole were read"

echo "-- nothing but a hole: a request of it is read"
copy 0
(($(questions) > 0)) || fail "not asked"
n=$(bytes_read 0)
echo "$n bytes of it"
((n > 0 && n <= 8 * MiB)) || fail "$n bytes of it were read"
