# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# What the tests of the durable dirty map share.  Sourced after functions.sh, which
# sets what is used here.  One proxy, "proxy", of $tmp/disks/source, which goes to
# "destination".
# shellcheck disable=SC2154

chunk=65536
export span=$((256 * 1024)) # what a first touch marks; used by tests
dir=$tmp/proxy.dir
keep=$tmp/kept # as tests/preload/power.c has it
S=$(uri proxy) D=$(uri destination)

# new_disks BYTES: a source that is full, and an empty destination.
new_disks ()
{
  size=$1
  rm -rf "$dir" "$tmp/disks" "$keep"
  mkdir "$tmp/disks" "$keep"
  truncate -s "$size" "$tmp/disks/source" "$tmp/destination"
}

# The proxy, whose files tests/preload/power.c looks after; its time runs faster,
# since it waits for late writes of one that was killed (R17).
start_kept ()
{
  touch "$tmp/hurry"
  LD_PRELOAD=$power POWER_ROOT=$tmp/ POWER_KEEP=$keep \
    hurried 5 start_nbdkit proxy "${above[@]}" --filter="$filter" \
    file "$tmp/disks/source" migrate-dir="$dir" migrate-chunk=$chunk \
    "${parameters[@]}"
}
power=$BUILD/tests/power-preload.so
above=()      # filters
parameters=() # of nbdkit, more of them

start_destination ()
{
  start_nbdkit destination file "$tmp/destination"
}

# The power fails: these files are what they were when they were synced last; none
# where they never were.
lose_power ()
{
  local path

  crash_bg proxy
  for path; do
    cp "$keep/$(basename "$path")" "$path" 2> "$tmp/cp.log" || rm -f "$path"
  done
}

# marked: how many bytes are.
marked ()
{
  status .dirty_map.marked_bytes
}

is_marked_at_most ()
{
  (($(marked) <= $1))
}

# write_at OFFSET LENGTH
write_at ()
{
  qemu-io -f raw -c "write -P $((RANDOM % 255 + 1)) $1 $2" "$S" \
    > "$tmp/qemu-io.out"
}

# All is copied, the migrator is gone, and nothing is marked any more.
copy_all ()
{
  start_migrate --wait "$S" "$D"
  wait_for is_ready
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
  wait_for is_marked_at_most 0
}

# go_on OPTION...: the migration goes on, and how much was sent is in $sent.
go_on ()
{
  migrate "$@" "$S" "$D" || return
  [ "$(completed resumed)" = true ] || fail "it did not go on: $*"
  sent=$(completed 'copied_bytes + .zeroed_bytes')
  echo "gone on with, $sent bytes sent"
}
