#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# R18: the proxy is killed with SIGKILL at every step of writing down where it
# copies to (the history of destinations and the owner record), and started
# again.  Whatever it had written to by then, --destination-is-zero is not
# believed of it, nor of an earlier destination; the promise is still worth
# something where nothing was forgotten; and what the crash left behind does no
# harm, not to an export either whose name looks like it.
#
# The steps are those of tests/preload/crash.c.  Power failures it does not show,
# but the order of the steps.
#
# timeout: 360

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdcopy

size=$((1024 * 1024 + 512))
dir=$tmp/proxy.dir
cases=0
declare -A seen # how many kills found the destination written to, or not

start_again ()
{
  start_proxy proxy file "$tmp/source"
}

# start_crashing FILES HOW STEP: from when the file "arm" is there.
start_crashing ()
{
  rm -f "$tmp/steps" "$tmp/arm"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$dir CRASH_FILES=$1 \
    CRASH_HOW=$2 CRASH_AT=$3 CRASH_ARM=$tmp/arm CRASH_LOG=$tmp/steps start_again
}

# copy_to NAME: with the promise that it is zero.
copy_to ()
{
  migrate --finish=detach --destination-is-zero "$(uri proxy)" "$(uri "$1")"
}

# holds_a_copy NAME
holds_a_copy ()
{
  copy_to "$1" || fail "$2: copying to $1: exit status $?"
  cmp "$tmp/source" "$tmp/$1" || fail "$2: $1 is no copy"
}

# zero NAME...: these disks.
zero ()
{
  local name

  for name; do
    truncate -s 0 "$tmp/$name"
    truncate -s $size "$tmp/$name"
  done
}

# prepare EARLIER: what there was before.
#   nothing   the proxy has never copied
#   known     it has copied to "old"
#   lost      the same, but the record is gone and who owns the disk was settled
prepare ()
{
  rm -rf "$dir"
  cp "$tmp/full" "$tmp/source"
  zero first old
  mkdir -m 700 "$dir"
  [ "$1" = nothing ] || {
    cp "$tmp/full" "$tmp/old"
    cp "$tmp/known"/* "$dir"
  }
  [ "$1" != lost ] || : > "$dir/state"
}

settle ()
{
  nbdinfo --size "$(uri proxy)" > "$tmp/info.out" # opens the export
  "$nbdmigrate" reopen "$(uri proxy)" owner=source 2> "$tmp/reopen.log"
}

# crash_copy EARLIER FILES HOW STEP: false if there is no such step.
crash_copy ()
{
  local what result=0

  prepare "$1"
  start_crashing "$2" "$3" "$4"
  [ "$1" != lost ] || settle
  touch "$tmp/arm"
  copy_to first || result=$?
  if ! grep -q "^$4 " "$tmp/steps"; then
    [ $result -eq 0 ] || fail "exit status $result, and nobody was killed"
    end_bg proxy
    check_after "$1" "$1, not killed"
    return 1
  fi
  expect_status 137 wait_bg proxy
  # Nothing is on its way to these destinations: nobody need wait for it.
  : > "$dir/lock"
  what="$1, killed $3 step $4 ($(tail -n 1 "$tmp/steps"))"
  if cmp -s "$tmp/first" "$tmp/zeroes"; then
    what+=", nothing copied"
    seen[empty]=1
  else
    what+=", copied"
    seen[written]=1
  fi
  echo "$what"
  check_after "$1" "$what"
}

# The proxy comes back, and its source is all zero meanwhile.
check_after ()
{
  zero source
  start_again
  holds_a_copy first "$2"
  [ "$1" = nothing ] || holds_a_copy old "$2"
  if [ "$1" != lost ]; then
    copy_to new
    [ "$(completed skipped_bytes)" -eq $size ] ||
      fail "$2: a new destination is not believed to be new"
  fi
  end_bg proxy
  # What was written down after the crash counts again.
  cp "$tmp/full" "$tmp/source"
  start_again
  holds_a_copy first "$2"
  end_bg proxy
  zero source
  start_again
  holds_a_copy first "$2"
  must_have_status "$(uri proxy)" '.owner == "source"'
  end_bg proxy
}

# at_every_step EARLIER FILES
at_every_step ()
{
  local step=1

  while crash_copy "$1" "$2" before $step; do
    if [ "$(tail -n 1 "$tmp/steps")" = "$step write" ]; then
      crash_copy "$1" "$2" torn $step || fail "no torn write at step $step"
      cases=$((cases + 1))
    fi
    cases=$((cases + 1))
    step=$((step + 1))
  done
  ((step > 1)) || fail "no step was seen"
  crash_copy "$1" "$2" after $((step - 1)) ||
    fail "not killed after the last step"
  cases=$((cases + 1))
}

truncate -s $size "$tmp/full" "$tmp/zeroes"
zero first old new
start_nbdkit full file "$tmp/full"
fill "$(uri full)" 100
end_bg full
for name in first old; do
  start_nbdkit $name file "$tmp/$name"
done
start_nbdkit new memory $size

cp "$tmp/full" "$tmp/source"
start_again
copy_to old
end_bg proxy
mkdir "$tmp/known"
cp "$dir"/{state,history,dirty-map} "$tmp/known"

at_every_step known 'history state'
at_every_step nothing 'history state'
[ ${#seen[@]} -eq 2 ] || fail "of the destinations seen, all were ${!seen[*]}"
at_every_step lost history

echo "-- in this order: it is on the disk before it has the name"
prepare known
start_crashing history none 0
touch "$tmp/arm"
copy_to first
end_bg proxy
[ "$(sed 's/.* //' "$tmp/steps" | xargs)" = "create write sync rename sync" ] ||
  fail "the steps are $(xargs < "$tmp/steps")"

echo "-- exports that are called like the files"
prepare known
start_crashing history before 4 # the renaming
touch "$tmp/arm"
expect_status 1 copy_to first
expect_status 137 wait_bg proxy
: > "$dir/lock" # as above
cp "$dir/.new-history" "$tmp/left-behind"
exports=(.new-history history state)
mkdir "$tmp/disks"

start_all ()
{
  start_proxy proxy file dir="$tmp/disks" migrate-named-exports=true
}

# All of them are copied, each to its own destination.
copy_all ()
{
  local name

  for name in "${exports[@]}"; do
    must_migrate --finish=detach --destination-is-zero \
      "nbd+unix:///$name?socket=$tmp/proxy.sock" "$(uri "of-$name")"
    cmp "$tmp/disks/$name" "$tmp/of-$name" || fail "$name was not copied"
  done
}

for name in "${exports[@]}"; do
  cp "$tmp/full" "$tmp/disks/$name"
  zero "of-$name"
  start_nbdkit "of-$name" file "$tmp/of-$name"
done
start_all
copy_all
end_bg proxy
for name in "${exports[@]}"; do
  zero "disks/$name"
  [ "$(grep -c . "$dir/history.$name")" -eq 4 ] ||
    fail "not a URI and an address: $dir/history.$name"
done
start_all
copy_all
end_bg proxy
cmp "$dir/.new-history" "$tmp/left-behind"
cmp "$dir/history" "$tmp/known/history"
[ "$(status_of "$dir" .export | sort | xargs)" = \
  ".new-history history state" ] || fail "$(status_of "$dir" .export)"
echo "$cases kills"
