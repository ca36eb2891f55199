# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# What the tests of migrations with several disks share.  Sourced after
# functions.sh, which sets what is used here.
# shellcheck disable=SC2154

# The URI of an export of a server: export_uri SERVER NAME.
export_uri ()
{
  echo "nbd+unix:///$2?socket=$tmp/$1.sock"
}

# fill_all DENSITY URI...: as fill.
fill_all ()
{
  local density=$1 u

  shift
  for u; do
    fill "$u" "$density" > "$tmp/fill.out"
  done
}

# start_guest_on NAME URI... -- ARGUMENT...: one guest that writes to all of
# these disks.
start_guest_on ()
{
  local name=$1 first=$2 more=()

  shift 2
  while [ "$1" != -- ]; do
    more+=(--uri "$1")
    shift
  done
  shift
  start_guest "$name" "$first" "${more[@]}" "$@"
}

uri_options ()
{
  local u

  for u; do
    echo --uri
    echo "$u"
  done
}

# verify_all_final GUEST URI...: all that was acknowledged must be there.
verify_all_final ()
{
  local name=$1 options

  shift
  mapfile -t options < <(uri_options "$@")
  "${in[@]}" "$referee" verify --log "$tmp/$name.record" --mode=final "${options[@]}" ||
    fail "the disks do not hold what the guest wrote: $*"
}

# verify_one_instant GUEST URI...: the disks must be as they all were at one
# and the same instant of the pauses that were committed.  Returns 3 if not.
verify_one_instant ()
{
  local name=$1 bounds options status=0

  shift
  bounds=$(event 'map(select(.event == "pause" and .result == "committed")) |
                  "--cut-after=\(map(.begin_time) | min)" +
                  " --cut-before=\(map(.end_time) | max)"')
  mapfile -t options < <(uri_options "$@")
  # shellcheck disable=SC2086 # two words
  "${in[@]}" "$referee" verify --log "$tmp/$name.record" --mode=cut $bounds \
    "${options[@]}" || status=$?
  return $status
}

# The destination's data as sent over the wire: the sum of all writes in the
# file of nbdkit's log filter.
wire_bytes ()
{
  local total=0 count

  while read -r count; do
    total=$((total + count))
  done < <(sed -n 's/.* Write id=.* count=\(0x[0-9a-f]*\) .*/\1/p' "$1")
  echo $total
}

# The same without what the last run wrote besides, to tell its destinations apart,
# and put back.
copied_bytes ()
{
  echo $(($(wire_bytes "$1") - $(completed marked_bytes)))
}

# What a file occupies, in bytes.
allocated_bytes ()
{
  sync "$1"
  stat -c '%b %B' "$1" | { read -r blocks size; echo $((blocks * size)); }
}
