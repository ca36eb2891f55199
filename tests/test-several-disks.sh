#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Several disks are one migration: behind a proxy each, or as exports of one;
# with one rate, one progress and one pause, copied side by side.  Up to 32 of
# them.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq

MiB=$((1024 * 1024))
size1=$((24 * MiB + 512)) size2=$((12 * MiB + 4321))
rate=$((8 * MiB))

# ---- two proxies -----------------------------------------------------------

truncate -s $size1 "$tmp/source1" "$tmp/destination1"
truncate -s $size2 "$tmp/source2" "$tmp/destination2"
for i in 1 2; do
  start_proxy proxy$i file "$tmp/source$i"
  start_nbdkit destination$i file "$tmp/destination$i"
done
S1=$(uri proxy1) S2=$(uri proxy2)
D1=$(uri destination1) D2=$(uri destination2)
fill_all 100 "$S1" "$S2"
start_guest_on guest "$S1" "$S2" -- --initial "$pattern" --rate 1M

# work_of URI: bytes left, and bytes copied that no flush has covered yet.
work_of ()
{
  status_of "$1" '"\(.remaining_bytes) \(.unflushed_bytes)"'
}

# Both have begun, and neither was half done before the other had.  The migrator
# stands still while it is looked at.  What is copied can be dirty again, so that
# as much is left as before: what is not flushed yet tells that it has begun.
both_under_way ()
{
  local left1 left2 unflushed1 unflushed2 begun1 begun2

  kill_bg migrator STOP
  read -r left1 unflushed1 < <(work_of "$S1")
  read -r left2 unflushed2 < <(work_of "$S2")
  kill_bg migrator CONT
  begun1=$((unflushed1 > MiB || left1 < size1 - 2 * MiB))
  begun2=$((unflushed2 > MiB || left2 < size2 - 2 * MiB))
  (((begun1 || left2 > size2 / 2) && (begun2 || left1 > size1 / 2))) ||
    fail "one disk waited for the other (left: $left1 and $left2 bytes)"
  ((begun1 && begun2))
}

# What was copied at each moment is within what the rate allows: the bytes of
# the time, a tenth of a second's worth in hand, and one request more.
rate_was_kept ()
{
  event "(map(select(.event == \"started\")) | last.time) as \$began |
         map(select(.event == \"progress\" and .rate == $rate) |
             select(.copied_bytes >
                    $rate * (.time - \$began + 0.1) + $MiB)) |
         length"
}

echo "-- two proxies: one rate, one progress, side by side"
start_migrate --finish=pivot --rate=$rate "$S1" "$D1" "$S2" "$D2"
wait_for has_event started
wait_for both_under_way
for u in "$S1" "$S2"; do
  has_status "$u" ".session and .progress.phase == \"bulk\" and
                   .progress.pass_total_bytes == $((size1 + size2)) and
                   .progress.rate == $rate"
done
[ "$(rate_was_kept)" -eq 0 ] || fail "together they were faster than the rate"
"$nbdmigrate" set "$S2" rate=0
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
[ "$(event 'map(select(.event == "pause" and .result == "committed")) |
            length')" -eq 1 ]
[ "$(completed disk_bytes)" -eq $((size1 + size2)) ]
[ "$(completed 'disks | length')" -eq 2 ]
guest_goes_on guest
stop_guest guest
for u in "$S1" "$S2"; do
  has_status "$u" '.owner == "destination" and .last_end == "pivoted" and
                   .gate == "open" and .last_pause_us > 0'
done
verify_all_final guest "$S1" "$S2"
verify_all_final guest "$D1" "$D2"
for i in 1 2; do
  end_bg proxy$i
  end_bg destination$i
done

echo "-- a slow destination holds up its own disk only"
for i in 3 4; do
  start_proxy proxy$i memory 8M
  fill "$(uri proxy$i)" 100 > "$tmp/fill.out"
done
start_nbdkit destination3 --filter=delay memory 8M delay-write=500ms
start_nbdkit destination4 memory 8M
start_migrate --finish=detach "$(uri proxy3)" "$(uri destination3)" \
  "$(uri proxy4)" "$(uri destination4)"
wait_for has_event started
wait_for has_status "$(uri proxy4)" '.remaining_bytes == 0'
has_status "$(uri proxy3)" '.remaining_bytes > 0' ||
  fail "the fast disk has waited for the slow one"
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
for i in 3 4; do
  same_content "$(uri proxy$i)" "$(uri destination$i)"
  end_bg proxy$i
  end_bg destination$i
done

# ---- one server ------------------------------------------------------------

# start_exports N SIZE: so many disks behind one proxy, and as many
# destinations behind one server.
start_exports ()
{
  local i

  rm -rf "$tmp/sources" "$tmp/destinations" "$tmp/proxy.dir"
  mkdir "$tmp/sources" "$tmp/destinations"
  sources=() destinations=() pairs=()
  for ((i = 1; i <= $1; i++)); do
    truncate -s "$2" "$tmp/sources/disk$i" "$tmp/destinations/disk$i"
    sources+=("$(export_uri proxy disk$i)")
    destinations+=("$(export_uri destination disk$i)")
    pairs+=("$(export_uri proxy disk$i)" "$(export_uri destination disk$i)")
  done
  start_proxy proxy file dir="$tmp/sources" migrate-named-exports=true
  start_nbdkit destination file dir="$tmp/destinations"
}

# migrate_exports MODE GUEST: while the guest writes to all of them.
migrate_exports ()
{
  local more=()

  [ "$1" != handover ] || more=(--expect-shutdown)
  fill_all 50 "${sources[@]}"
  start_guest_on "$2" "${sources[@]}" -- --initial "$pattern" --rate 4M \
    --depth 16 --connections 1 --cells 256 "${more[@]}"
  must_migrate "--finish=$1" "${pairs[@]}"
  [ "$(completed 'disks | length')" -eq ${#sources[@]} ]
  echo "$(completed passes) passes, pause $(completed pause_ms) ms"
}

echo "-- one proxy with two exports: handover"
start_exports 2 $((4 * MiB + 512))
migrate_exports handover guest-exports
wait_bg guest-exports || fail "the guest ended with exit status $?"
verify_all_final guest-exports "${destinations[@]}"
end_bg proxy
end_bg destination

echo "-- 32 disks: detach, then pivot"
start_exports 32 $((MiB + 512))
migrate_exports detach guest-32
guest_goes_on guest-32
verify_one_instant guest-32 "${destinations[@]}" ||
  fail "the copies are not of one instant"
must_migrate --finish=pivot "${pairs[@]}"
echo "$(completed passes) passes, pause $(completed pause_ms) ms"
guest_goes_on guest-32
stop_guest guest-32
verify_all_final guest-32 "${destinations[@]}"
for u in "${sources[@]}"; do
  has_status "$u" '.owner == "destination"' || fail "$u has not pivoted"
done
end_bg proxy # before the server that it is connected to
