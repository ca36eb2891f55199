#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Of several disks, one that cannot be moved is enough: all are refused, with a
# message that names it, before anything is written to any destination.  So are
# a disk without a destination, and a source or a destination that is named
# twice, however it is spelled.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq

size=$((1024 * 1024))
mkdir "$tmp/sources" "$tmp/destinations"
pairs=()
for i in 1 2 3 4 5; do
  truncate -s $size "$tmp/sources/disk$i" "$tmp/destinations/disk$i"
  pairs+=("$(export_uri proxy disk$i)" "$(export_uri destination disk$i)")
done
start_proxy proxy file dir="$tmp/sources" migrate-named-exports=true
start_nbdkit destination --filter=log file dir="$tmp/destinations" \
  logfile="$tmp/requests"
for i in 1 2 3 4 5; do
  fill "$(export_uri proxy disk$i)" 100 > "$tmp/fill.out"
done

# refused STATUS TEXT ARGUMENT...
refused ()
{
  local expected=$1 text=$2

  shift 2
  echo "-- $text"
  expect_status "$expected" timeout 20 "$nbdmigrate" --finish=detach "$@" \
    > "$tmp/printed" 2> "$tmp/said"
  sed 's/^/   /' "$tmp/said"
  grep -qF -- "$text" "$tmp/said" || fail "this is not said: $text"
  ! grep -E ' (Write|Zero|Trim) ' "$tmp/requests" || fail "it was written to"
}

# with I WHAT...: the five pairs, but the I-th word is another one.
with ()
{
  changed=("${pairs[@]}")
  changed[$1]=$2
}

refused 2 "${pairs[8]}" "${pairs[@]:0:9}"
with 8 "${pairs[0]}"
refused 2 'named twice' "${changed[@]}"
with 9 "${pairs[1]}"
refused 2 'named twice' "${changed[@]}"
with 9 "${pairs[0]}"
refused 2 'named twice' "${changed[@]}"

# other words for the first disk
with 8 "nbd+unix:///disk1?socket=$tmp/../${tmp##*/}/proxy.sock"
refused 1 'named twice' "${changed[@]}"
with 9 "nbd+unix:///disk1?socket=$tmp/./destination.sock"
refused 1 'named twice' "${changed[@]}"
ln -s proxy.sock "$tmp/alias.sock"
with 8 "$(export_uri alias disk1)"
refused 1 'named twice' "${changed[@]}"
with 8 "nbd+unix:///%64isk1?socket=$tmp/proxy.sock"
refused 1 'named twice' "${changed[@]}"

with 9 "$(export_uri nobody disk5)"
refused 1 nobody.sock "${changed[@]}"
with 8 "$(export_uri nobody disk5)"
refused 1 nobody.sock "${changed[@]}"
with 9 "$(export_uri destination disk6)"
refused 1 disk6 "${changed[@]}"

truncate -s $((size - 512)) "$tmp/destinations/small"
with 9 "$(export_uri destination small)"
refused 1 $((size - 512)) "${changed[@]}"
start_nbdkit readonly -r memory $size
with 5 "$(uri readonly)"
refused 1 read-only "${changed[@]}"

"$nbdmigrate" status "${pairs[0]}" > "$tmp/status"
for ((i = 0; i < 10; i += 2)); do
  has_status "${pairs[i]}" '.tracking == false and .owner == "source"' ||
    fail "${pairs[i]} is being tracked"
done

echo "-- one of them is being migrated already"
start_nbdkit spare memory $size
start_bg other "$nbdmigrate" --finish=detach --wait "${pairs[4]}" "$(uri spare)"
wait_for has_status "${pairs[4]}" '.progress.phase == "ready"'
refused 1 "${pairs[4]}" "${pairs[@]}"
kill_bg other INT
expect_status 3 wait_bg other

echo "-- nothing was wrong with the rest"
must_migrate --finish=detach "${pairs[@]}"
for i in 1 2 3 4 5; do
  same_content "$(export_uri proxy disk$i)" "$(export_uri destination disk$i)"
done
