#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# --verify reads back and compares what was copied before the cut-over, while
# the guest writes: no false alarm, and every destination that does not return
# what it was given is found out, with the offset, before the cut-over and with
# exit status 1; also when an earlier run copied it, or left it out.  --digest
# tells the SHA-256 of the destination.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq nbdcopy qemu-io sha256sum

size=$((12 * 1024 * 1024 + 4321))
chunk=4096
S=$(uri proxy) D=$(uri destination)

start_source ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/guest.record"
  start_proxy proxy memory $size
  fill "$S" 70 > "$tmp/fill.out"
}

stop_all ()
{
  local name

  for name in proxy destination; do
    [ -z "${pids[$name]:-}" ] || end_bg $name
  done
}

digest_of ()
{
  nbdcopy "$1" - | head -c $size | sha256sum | cut -d ' ' -f 1
}

echo "-- an idle guest: all of it is read back, and the digest is right"
start_source
start_nbdkit destination memory $((size + 1000))
must_migrate --finish=detach --verify --digest "$S" "$D"
[ "$(completed compared_bytes)" -eq $size ]
[ "$(completed 'disks[0].sha256')" = "$(digest_of "$D")" ]
[ "$(completed 'disks[0].sha256')" = "$(digest_of "$S")" ]
stop_all

echo "-- and over connections that have not written"
start_source
start_nbdkit destination --filter=log memory $size logfile="$tmp/requests"
must_migrate --finish=detach --verify --digest "$S" "$D"
[ "$(completed compared_bytes)" -eq $size ]
[ "$(completed 'disks[0].sha256')" = "$(digest_of "$S")" ]
# connections KIND: those that asked for more than small pieces, which marks and
# signs of life are.
connections ()
{
  sed -n "s/.* connection=\([0-9]*\) $1 id=.* count=\(0x[0-9a-f]*\) .*/\1 \2/p" \
    "$tmp/requests" | while read -r connection count; do
    ((count <= 4096)) || echo "$connection"
  done | sort -u
}
connections Write > "$tmp/writers"
connections Read > "$tmp/readers"
[ -s "$tmp/writers" ] && [ -s "$tmp/readers" ]
[ -z "$(comm -12 "$tmp/writers" "$tmp/readers")" ] ||
  fail "a connection that wrote was believed"
stop_all

echo "-- a disk that is shorter than a chunk, and a guest that keeps it dirty"
rm -r "$tmp/proxy.dir"
start_proxy proxy memory 66048 migrate-chunk=64M
start_nbdkit destination --filter=rate memory 66048 rate=32M \
  burstiness=0.05
start_guest guest "$S"
must_migrate --finish=detach --verify --max-pause=3s "$S" "$D"
# At most three rounds to settle, five more for a pause that was shorter just
# before (POLICY_SETTLE_ROUNDS, POLICY_WINDOW), and three to read back.
event 'map(select(.event == "policy") | .decision) |
       (map(select(. == "round")) | length) <= 3 + 5 and
       (map(select(. == "verify")) | length) <= 3' | grep -qx true ||
  fail "it goes on and on: $(grep policy "$tmp/events")"
verify_cut guest "$D"
stop_guest guest
stop_all
rm "$tmp/guest.record"

echo "-- the progress is that of the comparison, not of the little copied"
rm -r "$tmp/proxy.dir"
start_proxy proxy memory $size
fill "$S" 2 > "$tmp/fill.out"
start_nbdkit destination --filter=rate memory $size rate=32M
must_migrate --finish=detach --verify "$S" "$D"
event 'map(select(.event == "progress" and .phase == "verify")) | last |
       "\(.bytes_per_second) \(.pass_bytes)"' > "$tmp/rate"
cat "$tmp/rate"
read -r rate compared < "$tmp/rate"
copied=$(completed copied_bytes)
((rate > 0 && compared > copied)) || fail "that is not the rate of reading back"
stop_all

echo "-- under load: no false alarm"
for finish in detach pivot; do
  start_source
  start_nbdkit destination memory $size
  start_guest guest "$S" --initial "$pattern" --depth 16 --rate 8M
  must_migrate --finish=$finish --verify "$S" "$D"
  guest_goes_on guest
  [ $finish = pivot ] || verify_cut guest "$D"
  (($(completed compared_bytes) >= size)) || fail "not all was read back"
  echo "$finish: $(completed compared_bytes) bytes read back, pause" \
       "$(completed pause_ms) ms"
  stop_guest guest
  verify_final guest "$S"
  stop_all
done

echo "-- the digest under load: of the destination, as it is"
start_source
start_nbdkit destination memory $size
start_guest guest "$S" --initial "$pattern" --rate 8M
must_migrate --finish=detach --digest "$S" "$D"
[ "$(completed 'disks[0].sha256')" = "$(digest_of "$D")" ]
verify_cut guest "$D"
stop_guest guest
stop_all

echo "-- interrupted in the digest: the detach is done all the same"
start_source
truncate -s $size "$tmp/destination.img"
start_late destination
cue destination 'read late ms=1000 least=65537'
start_migrate --finish=detach --digest "$S" "$D"
in_digest ()
{
  has_event progress && event '.[-1] | .event == "progress" and
    .phase == "digest" and .bytes_per_second > 0' | grep -qx true
}
wait_for in_digest
echo "for everybody else it is over"
must_have_status "$S" '.session == false and .tracking and
                       .last_end == "detached"'
for command in 'set rate=1M' 'finish pivot'; do
  read -r name argument <<< "$command"
  expect_status 1 "$nbdmigrate" "$name" "$S" "$argument" 2> "$tmp/said"
  grep -q 'no migration of .* is running' "$tmp/said" ||
    fail "$name: $(cat "$tmp/said")"
done
kill_bg migrator INT
expect_status 1 wait_bg migrator
cue destination
cat "$tmp/migrator.log"
event '.[-1] | .event == "failed" and .status == 1 and
       (.error | test ("digest was interrupted"))' | grep -qx true
grep -q 'everything is done but the digest' "$tmp/migrator.log"
! grep -q 'same command again' "$tmp/migrator.log" ||
  fail "it says that it is not done"
must_migrate --finish=detach --incremental "$S" "$D"
[ "$(event '.[0].disks[0].resumed')" = true ]
stop_all

# found_out OFFSET NAME [TEXT]: by the last run, before the cut-over, and said
# in NAME.log: with that text, or that it was written.
found_out ()
{
  local first=$(($1 / chunk * chunk))

  sed 's/^/   /' "$tmp/$2.log"
  grep -qE -- "other bytes than ${3:-were written}" "$tmp/$2.log" ||
    fail "what is said of the cause is not true"
  grep -qE "offset $first \\($chunk|offset $first \\($((size % chunk)) " \
    "$tmp/$2.log" || fail "the offset $first is not told"
  grep -qF "$D" "$tmp/$2.log"
  [ "$(event 'map(select(.event == "pause" and .result == "committed")) |
              length')" -eq 0 ] || fail "that was after the cut-over"
  has_status "$S" '.owner == "source" and .gate == "open"'
}

for bad in 0 $((size / 2)) $((size - 1)); do
  for load in idle busy; do
    echo "-- the byte at $bad is not kept, the guest is $load"
    start_source
    start_nbdkit destination "$BUILD/tests/nbdkit-forgetful-plugin.so" \
      size=$size bad=$bad
    [ $load = idle ] ||
      start_guest guest "$S" --initial "$pattern" --depth 4 --rate 1M
    expect_status 1 migrate --finish=pivot --verify "$S" "$D"
    found_out $bad migrate
    if [ $load = busy ]; then
      guest_goes_on guest
      stop_guest guest
      verify_final guest "$S"
    fi
    stop_all
  done
done

echo "-- without --verify nobody notices one byte, but the digest tells"
start_source
"$referee" pattern --uri "$S" --seed 5 --density 100
start_nbdkit destination "$BUILD/tests/nbdkit-forgetful-plugin.so" \
  size=$size bad=1M
must_migrate --finish=detach --sample-seed=1 --digest "$S" "$D"
[ "$(completed 'disks[0].sha256')" = "$(digest_of "$D")" ]
[ "$(completed 'disks[0].sha256')" != "$(digest_of "$S")" ]
stop_all

not_zero='the source, .* leave that option out; the next run copies'

echo "-- a destination that is not zero, although that was said"
start_source
start_nbdkit destination memory $size
"$referee" pattern --uri "$D" --seed 5 --density 100
expect_status 1 migrate --finish=detach --verify --destination-is-zero "$S" "$D"
sed 's/^/   /' "$tmp/migrate.log"
grep -q 'is not zero, as --destination-is-zero says' "$tmp/migrate.log"
must_migrate --finish=detach --verify "$S" "$D"
same_content "$S" "$D"
stop_all

echo "-- it forgets only what is written last: noticed in the pause"
start_source
start_nbdkit destination "$BUILD/tests/nbdkit-forgetful-plugin.so" \
  size=$size bad=1M when="$tmp/forget"
start_migrate --finish=pivot --verify --wait "$S" "$D"
wait_for is_ready
touch "$tmp/forget"
"$referee" pattern --uri "$S" --seed 5 --density 100
"$nbdmigrate" finish --no-wait "$S"
expect_status 1 wait_bg migrator
found_out $((1024 * 1024)) migrator
rm "$tmp/forget"
must_migrate --finish=pivot --verify "$S" "$D"
same_content "$S" "$D"
stop_all

# ---- what an earlier run did -----------------------------------------------

for option in --finish=pivot --incremental; do
  echo "-- copied before, without --verify; now $option"
  start_source
  start_nbdkit destination memory $size
  if [ $option = --incremental ]; then
    must_migrate --finish=detach "$S" "$D"
  else
    start_migrate --wait "$S" "$D"
    wait_for is_ready
    kill_bg migrator INT
    expect_status 3 wait_bg migrator
  fi
  qemu-io -f raw -c 'write -P 0x55 1M 2' "$D" > "$tmp/write.out"
  # A sample finds one byte now and then.
  expect_status 1 migrate --verify "$option" "$S" "$D"
  grep -q 'does not hold what an earlier run copied' "$tmp/migrate.log" || {
    grep -q 'goes on from the run before' "$tmp/migrate.log"
    found_out $((1024 * 1024)) migrate 'the source, .* what an earlier run wrote'
  }
  stop_all
done

# The first difference ends a run before it comes to the second.
echo "-- left out by a run that was wrong about zeroes, and by the next one"
size=$((256 * 1024 * 1024))
rm -r "$tmp/proxy.dir"
start_proxy proxy memory $size
start_nbdkit destination --filter=noextents data size=$size \
  data="\"not zero\" @$((size - chunk)) \"not zero\""
for bad in 0 $((size - chunk)); do
  expect_status 1 migrate --sample-seed=1 --verify --destination-is-zero "$S" "$D"
  found_out $bad migrate "$not_zero"
done
must_migrate --sample-seed=1 --verify --destination-is-zero "$S" "$D"
same_content "$S" "$D"
stop_all
