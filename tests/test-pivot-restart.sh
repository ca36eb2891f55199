#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A proxy that is started again does what its owner record says: after a pivot
# it serves the destination, also when the source is gone; after a handover it
# refuses guests; with a record that it cannot read it serves nobody until
# `nbdmigrate reopen` settles who has the data.  Where the record cannot be
# written, the guest goes on with the source.
#
# timeout: 150

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdinfo

size=$((2 * 1024 * 1024 + 512))
dir=$tmp/proxy.dir
state=$dir/state

# owner_is OWNER: of the proxy, running, and by its directory.
owner_is ()
{
  local owner

  owner=$(status .owner)
  [ "$owner" = "$1" ] || fail "the owner is $owner, not $1"
  owner=$(status_of "$dir" .owner)
  [ "$owner" = "$1" ] || fail "by the directory the owner is $owner, not $1"
}

# offline_owner_is OWNER: by the state file alone.
offline_owner_is ()
{
  local owner

  owner=$(status_of "$dir" .owner 2> "$tmp/offline.log")
  [ "$owner" = "$1" ] || fail "by the state file the owner is $owner, not $1"
}

# destination_is NAME: as the proxy's directory has it.
destination_is ()
{
  must_have_status "$dir" ".destination == \"$(uri "$1")\""
}

# The guest finds the control socket and is served nothing, not even reads.
serves_nobody ()
{
  nbdinfo "$(uri proxy)" > "$tmp/info.out"
  grep -q 'nbdmigrate: control=' "$tmp/info.out" ||
    fail "the control socket is not announced"
  expect_status 1 nbdcopy "$(uri proxy)" null: 2> "$tmp/fence.log"
  grep -qi 'shutdown' "$tmp/fence.log" || fail "another error than ESHUTDOWN"
}

# resume_guest URI: the guest of before goes on.
resume_guest ()
{
  "$referee" run --uri "$1" --log "$tmp/guest.record" --resume --ops 300 \
    > "$tmp/resumed.out"
}

# Everything anew, with a guest at work.
begin ()
{
  rm -rf "$dir" "$tmp"/*.record "$tmp/source" "$tmp/destination"
  truncate -s $size "$tmp/source" "$tmp/destination"
  mkdir -m 700 "$dir"
  start_nbdkit destination file "$tmp/destination"
  "$@"
  start_guest guest "$(uri proxy)" --rate 4M
}

# The proxy first: a server waits for its clients.
all_end ()
{
  end_bg proxy
  end_bg destination
}

echo "-- after a pivot"
begin start_proxy proxy file "$tmp/source"
must_migrate "$(uri proxy)" "$(uri destination)"
guest_goes_on guest
owner_is destination
stop_guest guest
end_bg proxy
offline_owner_is destination
start_proxy proxy file "$tmp/source"
resume_guest "$(uri proxy)"
verify_final guest "$(uri destination)"
owner_is destination
[ "$(status .last_end)" = pivoted ]
expect_status 1 migrate "$(uri proxy)" "$(uri destination)"
expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" owner=source \
  2> "$tmp/reopen.log"

# refused TEXT ARGUMENT...: nbdmigrate says so, and nothing is changed.
refused ()
{
  local text=$1

  shift
  expect_status 1 "$nbdmigrate" "$@" 2> "$tmp/refused.log"
  grep -qF -- "$text" "$tmp/refused.log" ||
    fail "this is not said: $text in $(cat "$tmp/refused.log")"
}

echo "-- what is served cannot be given another destination"
refused "served from $(uri destination) already, and nothing was changed" \
  reopen "$(uri proxy)" owner=destination destination="$(uri nobody)"
refused 'goes with owner=destination only' \
  reopen "$(uri proxy)" owner=source destination="$(uri nobody)"
refused 'the source is not up to date' reopen "$(uri proxy)" owner=source
destination_is destination
"$nbdmigrate" reopen "$(uri proxy)" owner=destination \
  destination="$(uri destination)"

echo "-- the source is gone"
end_bg proxy
rm "$tmp/source"
start_proxy proxy nbd socket="$tmp/nobody.sock"
resume_guest "$(uri proxy)"
verify_final guest "$(uri destination)"
nbdinfo --json "$(uri proxy)" > "$tmp/info"
[ "$(jq -c '.exports[0] | [."export-size", .can_fua, .can_zero, .can_trim,
       .can_flush, .can_multi_conn, .can_fast_zero, .can_cache]' \
       "$tmp/info")" = "[$size,true,true,true,true,true,true,true]" ]

echo "-- the destination is away when the proxy starts"
all_end
start_proxy proxy null size=$size
expect_status 1 nbdinfo "$(uri proxy)" > "$tmp/info.out" 2>&1
grep -q "which cannot be reached: .* reopen $dir" "$tmp/proxy.log"
# Since nbdkit 1.42 clients are told the last one.
grep 'error: ' "$tmp/proxy.log" | tail -n 1 > "$tmp/last"
grep -q 'is not served now' "$tmp/last"
! grep -F "$tmp" "$tmp/last" || fail "a client is told a path"
must_have_status "$dir" '.relay == null'
"$nbdmigrate" status "$dir" | grep -q '^connection  *not made yet'
start_nbdkit destination file "$tmp/destination"
resume_guest "$(uri proxy)"
verify_final guest "$(uri destination)"

echo "-- it is at another address now: before any client has come"
all_end
start_nbdkit moved file "$tmp/destination"
start_proxy proxy null size=$size
must_have_status "$dir" '.owner == "destination" and .relay == null'
destination_is destination
refused 'nothing was changed' reopen "$dir" owner=destination
refused 'up to date' reopen "$dir" owner=source
refused 'nothing was changed' reopen "$dir" owner=destination \
  destination="$(uri nobody)"
start_nbdkit small memory 1M
refused 'nothing was changed' reopen "$dir" owner=destination \
  destination="$(uri small)"
end_bg small
refused 'was pivoted, and is at' cancel "$dir"
must_have_status "$dir" '.relay == null'
destination_is destination
"$nbdmigrate" reopen "$dir" owner=destination destination="$(uri moved)" \
  2> "$tmp/reopen.log"
grep -qF "is served from $(uri moved)" "$tmp/reopen.log"
must_have_status "$dir" .relay.up
destination_is moved
resume_guest "$(uri proxy)"
refused "served from $(uri moved) already" reopen "$dir" owner=destination \
  destination="$(uri destination)"
verify_final guest "$(uri moved)"

echo "-- and the proxy remembers"
end_bg proxy
start_proxy proxy null size=$size
resume_guest "$(uri proxy)"
verify_final guest "$(uri moved)"
end_bg proxy
end_bg moved

echo "-- after clients have tried in vain"
start_nbdkit destination file "$tmp/destination"
start_proxy proxy null size=$size
expect_status 1 nbdinfo "$(uri proxy)" > "$tmp/info.out" 2>&1
"$nbdmigrate" reopen --control="$dir/control" "$(uri proxy)" \
  owner=destination destination="$(uri destination)"
resume_guest "$(uri proxy)"
verify_final guest "$(uri destination)"
all_end

echo "-- while a client is waiting for the old address"
client_waits ()
{
  grep -q 'migrate: export "": id' "$tmp/proxy.log"
}
start_nbdkit destination file "$tmp/destination"
kill_bg destination STOP
start_nbdkit moved file "$tmp/destination"
start_proxy proxy -v null size=$size
start_bg client nbdinfo "$(uri proxy)"
wait_for client_waits
"$nbdmigrate" reopen "$dir" owner=destination \
  destination="$(uri moved)" || fail "reopen: exit status $?"
is_running "${pids[client]}" || fail "reopen waits for the client"
wait_bg client || fail "the client was refused"
resume_guest "$(uri proxy)"
must_have_status "$dir" .relay.up
destination_is moved
kill_bg destination CONT
end_bg proxy
end_bg destination
end_bg moved

echo "-- killed, without the cost of durable records"
begin start_proxy proxy file "$tmp/source" migrate-state-sync=false
# nbdkit before 1.34 may end when its client is killed with answers on their way.
end_bg destination
start_qemu_nbd destination -f raw -e 16 "$tmp/destination"
end_bg guest
rm "$tmp/guest.record"
start_guest guest "$(uri proxy)" --initial any --expect-disconnect
must_migrate "$(uri proxy)" "$(uri destination)"
guest_goes_on guest
crash_bg proxy
wait_bg guest
start_proxy proxy file "$tmp/source" migrate-state-sync=false
owner_is destination
verify_final guest "$(uri proxy)"
all_end

echo "-- after a handover"
begin start_proxy proxy file "$tmp/source"
end_bg guest
rm "$tmp/guest.record"
start_guest guest "$(uri proxy)" --initial any --expect-shutdown
must_migrate --finish=handover "$(uri proxy)" "$(uri destination)"
wait_bg guest
owner_is fenced
end_bg proxy
offline_owner_is fenced
start_proxy proxy file "$tmp/source"
serves_nobody
owner_is fenced
"$nbdmigrate" reopen "$(uri proxy)"
resume_guest "$(uri proxy)"
end_bg proxy
start_proxy proxy file "$tmp/source"
owner_is source
# Nothing of what the destination got before counts any more.
must_migrate --incremental "$(uri proxy)" "$(uri destination)"
[ "$(completed resumed)" = false ]
verify_final guest "$(uri destination)"
all_end

# A record in which each side has a content of its own, the destination owns.
make_record ()
{
  begin start_proxy proxy file "$tmp/source"
  must_migrate "$(uri proxy)" "$(uri destination)"
  stop_guest guest > "$tmp/guest.report"
  end_bg proxy
  printf 'source     ' | dd of="$tmp/source" conv=notrunc status=none
  printf 'destination' | dd of="$tmp/destination" conv=notrunc status=none
}

# serves NAME
serves ()
{
  nbdcopy "$(uri proxy)" "$tmp/seen"
  [ "$(head -c 11 "$tmp/seen" | tr -d ' ')" = "$1" ] ||
    fail "the $1 does not serve"
}

# rot OFFSET: a byte of the state file that no URI holds (a letter may be the one
# that is there).
rot ()
{
  printf '\377' | dd of="$state" bs=1 seek="$1" conv=notrunc status=none
}

# damage HOW: the state file.
damage ()
{
  case $1 in
  both-slots-rotten)
    rot 300
    rot 65836 ;;
  empty) : > "$state" ;;
  short) truncate -s 70000 "$state" ;;
  zeroes)
    : > "$state"
    truncate -s 131072 "$state" ;;
  of-another-export)
    cp "$tmp/other.dir/state.x" "$state" ;;
  esac
}

# The state file of an export "x", for damage.
start_nbdkit spare memory 1M
start_proxy other memory 1M migrate-named-exports=true
must_migrate --finish=detach "nbd+unix:///x?socket=$tmp/other.sock" \
  "$(uri spare)"
end_bg other
end_bg spare

for how in both-slots-rotten empty short zeroes of-another-export; do
  echo "-- the state file is $how"
  make_record
  damage "$how"
  offline_owner_is unknown
  start_proxy proxy file "$tmp/source"
  serves_nobody
  owner_is unknown
  expect_status 1 migrate "$(uri proxy)" "$(uri destination)"
  expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" 2> "$tmp/reopen.log"
  case $how in
  empty | short)
    "$nbdmigrate" reopen "$(uri proxy)" owner=source
    serves source
    owner=source ;;
  *)
    expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" owner=destination \
      2> "$tmp/reopen.log" # it is not known which
    "$nbdmigrate" reopen "$(uri proxy)" owner=destination \
      destination="$(uri destination)"
    serves destination
    owner=destination ;;
  esac
  owner_is $owner
  end_bg proxy
  start_proxy proxy file "$tmp/source"
  serves $owner
  all_end
done

echo "-- one slot is rotten: the other one tells"
make_record
rot 300
start_proxy proxy file "$tmp/source"
serves destination
end_bg proxy
rot 65836
start_proxy proxy file "$tmp/source" # the first one was mended
serves destination
all_end

echo "-- the default export has another name now"
begin start_proxy proxy --filter=exportname file "$tmp/source" \
  default-export=vm1
must_migrate "$(uri proxy)" "$(uri destination)"
stop_guest guest > "$tmp/guest.report"
end_bg proxy
printf 'source     ' | dd of="$tmp/source" conv=notrunc status=none
printf 'destination' | dd of="$tmp/destination" conv=notrunc status=none
end_bg destination
start_nbdkit destination file "$tmp/destination"
start_proxy proxy file "$tmp/source"
serves_nobody
grep -q 'one of an export "vm1"' "$tmp/proxy.log" ||
  fail "it is not said: $(cat "$tmp/proxy.log")"
end_bg proxy
start_proxy proxy --filter=exportname file "$tmp/source" default-export=vm1
serves destination
end_bg proxy
start_proxy proxy null size=$size
nbdinfo --size "$(uri proxy)" > "$tmp/info.out"
"$nbdmigrate" reopen "$(uri proxy)" owner=destination \
  destination="$(uri destination)" 2> "$tmp/reopen.log"
serves destination
all_end

# resize BYTES: the image, while no proxy runs; it never left its place.
resize ()
{
  end_bg proxy
  truncate -s "$1" "$tmp/source"
  start_proxy proxy file "$tmp/source"
  [ "$(nbdinfo --size "$(uri proxy)")" -eq "$1" ] || fail "another size"
}

# new_size_is_said BYTES
new_size_is_said ()
{
  grep -q "has $1 bytes, and had .* copies everything" "$tmp/proxy.log" ||
    fail "it is not said: $(cat "$tmp/proxy.log")"
}

echo "-- the image was grown since: it is served, and nothing is gone on with"
begin start_proxy proxy file "$tmp/source"
must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
stop_guest guest > "$tmp/guest.report"
resize $((size + 4096))
new_size_is_said $((size + 4096))
owner_is source
expect_status 1 migrate --incremental "$(uri proxy)" "$(uri destination)"
end_bg destination
truncate -s $((size + 8192)) "$tmp/destination"
start_nbdkit destination file "$tmp/destination"
must_migrate --finish=detach --incremental "$(uri proxy)" "$(uri destination)"
[ "$(completed resumed)" = false ]
cmp -n $((size + 4096)) "$tmp/source" "$tmp/destination"

echo "-- and it was made smaller, after a run that was interrupted"
start_migrate --wait "$(uri proxy)" "$(uri destination)"
wait_for is_ready
crash_bg migrator
resize $((size - 512))
new_size_is_said $((size - 512))
owner_is source
must_migrate "$(uri proxy)" "$(uri destination)"
owner_is destination
all_end

echo "-- a fenced one stays fenced"
begin start_proxy proxy file "$tmp/source"
stop_guest guest > "$tmp/guest.report"
must_migrate --finish=handover "$(uri proxy)" "$(uri destination)"
resize $((size + 4096))
serves_nobody
owner_is fenced
all_end

# ---- the record cannot be written -------------------------------------------

# A file system that really is full, where one can be mounted.
mount_tmpfs ()
{
  mount -t tmpfs -o size=64k,mode=700 none "$dir"
  at_end "umount '$dir' 2> /dev/null"
  start_proxy proxy file "$tmp/source"
  dd if=/dev/zero of="$dir/filler" bs=4k 2> "$tmp/dd.log" || :
}

if [ "$(id -u)" -eq 0 ] && unshare -m true 2> "$tmp/unshare.log"; then
  echo "-- the file system is full, until there is room again"
  begin mount_tmpfs
  expect_status 1 migrate "$(uri proxy)" "$(uri destination)"
  grep -q 'No space left' "$tmp/proxy.log"
  guest_goes_on guest
  owner_is source
  rm "$dir/filler"
  must_migrate "$(uri proxy)" "$(uri destination)"
  guest_goes_on guest
  owner_is destination
  stop_guest guest
  verify_final guest "$(uri destination)"
  all_end
  umount "$dir"
fi

# start_failing FIRST LAST: these steps on the state file fail once the file
# "arm" is there.
start_failing ()
{
  rm -f "$tmp/arm"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$dir CRASH_HOW=fail \
    CRASH_ARM=$tmp/arm CRASH_AT=$1 CRASH_TO=$2 CRASH_LOG=$tmp/steps \
    start_proxy proxy file "$tmp/source"
}

# Pivot, the record failing from the commit on.
pivot_failing ()
{
  start_migrate --wait "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  touch "$tmp/arm"
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
}

echo "-- the file system is full when the migration begins"
begin start_failing 1 1000
touch "$tmp/arm"
expect_status 1 migrate "$(uri proxy)" "$(uri destination)"
guest_goes_on guest
owner_is source
stop_guest guest
end_bg proxy
start_proxy proxy file "$tmp/source"
verify_final guest "$(uri proxy)"
all_end

echo "-- it is full in the commit"
begin start_failing 1 1
pivot_failing
expect_status 1 wait_bg migrator
guest_goes_on guest
owner_is source
must_migrate "$(uri proxy)" "$(uri destination)"
guest_goes_on guest
owner_is destination
stop_guest guest
verify_final guest "$(uri destination)"
all_end

echo "-- it is full when the destination gets another address"
# start_moved FIRST LAST: as above; the destination is at "moved".
start_moved ()
{
  start_nbdkit moved file "$tmp/destination"
  start_failing "$@"
  touch "$tmp/arm"
}
begin start_proxy proxy file "$tmp/source"
must_migrate "$(uri proxy)" "$(uri destination)"
stop_guest guest
all_end
start_moved 1 1
refused 'history of the destinations could not be removed' reopen "$dir" \
  owner=destination destination="$(uri moved)"
end_bg proxy
end_bg moved
start_moved 2 2
refused 'could not be recorded' reopen "$dir" owner=destination \
  destination="$(uri moved)"
destination_is destination
end_bg proxy
end_bg moved

echo "-- and cannot be brought back"
start_moved 2 1000
refused 'could not be recorded' reopen "$dir" owner=destination \
  destination="$(uri moved)"
serves_nobody
must_have_status "$dir" '.owner == "unknown"'
rm "$tmp/arm"
"$nbdmigrate" reopen "$dir" owner=destination destination="$(uri moved)"
verify_final guest "$(uri proxy)"
end_bg proxy
end_bg moved

echo "-- the old record cannot be restored either"
begin start_failing 1 1000
end_bg guest
rm "$tmp/guest.record"
start_guest guest "$(uri proxy)" --initial any --expect-shutdown
pivot_failing
expect_status 5 wait_bg migrator
wait_bg guest || fail "the guest ended with exit status $?"
serves_nobody
[ "$(status .owner)" = unknown ]
start_nbdkit other memory $size
expect_status 1 "$nbdmigrate" reopen "$(uri proxy)" owner=destination \
  destination="$(uri other)" 2> "$tmp/reopen.log"
serves_nobody
rm "$tmp/arm"
"$nbdmigrate" reopen "$(uri proxy)" owner=source
owner_is source
resume_guest "$(uri proxy)"
# Not to the other one, which failed.
must_migrate "$(uri proxy)" "$(uri destination)"
resume_guest "$(uri proxy)"
verify_final guest "$(uri destination)"
all_end
end_bg other
