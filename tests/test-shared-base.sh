#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# --shared-base: of a qcow2 overlay only the top layer travels, counted on the
# wire; what the guest writes meanwhile does, too; and the guest sees identical
# disks.  A base that cannot be right is refused.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq qemu-nbd qemu-img qemu-io nbdcopy

size=$((32 * 1024 * 1024 + 512))
chunk=65536

# ---- images ----------------------------------------------------------------

# The base is dense; its copy is what the destination's host has already.
start_nbdkit base memory $size
"$referee" pattern --uri "$(uri base)" --seed "$seed" --density 90 \
  > "$tmp/base.out"
nbdcopy "$(uri base)" "$tmp/base.raw"
end_bg base
cp "$tmp/base.raw" "$tmp/base-copy.raw"
qemu-img create -q -f qcow2 -b "$tmp/base.raw" -F raw "$tmp/source.qcow2"

# The top layer: data, a part of a cluster, zeroes over data of the base, a
# discarded part, and the disk's end.
qemu-io -f qcow2 -d unmap -c "write -P 11 1M 1M" -c "write -P 12 5000000 512" \
  -c "write -z 8M 256K" -c "discard 12M 128K" \
  -c "write -P 13 $((size - 512)) 512" "$tmp/source.qcow2" > "$tmp/qemu-io.out"

# ---- servers ---------------------------------------------------------------

start_qemu_nbd top -e 16 -f qcow2 --discard=unmap --allocation-depth \
  "$tmp/source.qcow2"
start_proxy proxy nbd socket="$tmp/top.sock" shared=true
S=$(uri proxy) B=$(uri top)

# start_destination NAME: an overlay over the copy of the base.
start_destination ()
{
  rm -f "$tmp/requests"
  qemu-img create -q -f qcow2 -b "$tmp/base-copy.raw" -F raw "$tmp/$1.qcow2"
  start_qemu_nbd behind -e 16 -f qcow2 --discard=unmap "$tmp/$1.qcow2"
  start_nbdkit "$1" --filter=log nbd socket="$tmp/behind.sock" shared=true \
    logfile="$tmp/requests"
  D=$(uri "$1")
}

stop_destination ()
{
  end_bg "$1"
  end_bg behind
}

start_destination destination

# ---- what cannot be right --------------------------------------------------

# refused STATUS TEXT ARGUMENT...
refused ()
{
  expect_status "$1" migrate --finish=detach "${@:3}" "$S" "$D"
  cat "$tmp/migrate.log"
  grep -qF -- "$2" "$tmp/migrate.log" || fail "this is not said: $2"
  ! grep -E ' (Write|Zero|Trim) ' "$tmp/requests" || fail "it was written to"
}

echo "-- refused"
refused 1 qemu:allocation-depth --shared-base="$(uri behind)"
start_nbdkit plain memory $size
refused 1 qemu:allocation-depth --shared-base="$(uri plain)"
qemu-img create -q -f qcow2 "$tmp/other.qcow2" $((size + 512))
start_qemu_nbd other -A -f qcow2 "$tmp/other.qcow2"
refused 1 $((size + 512)) --shared-base="$(uri other)"
refused 1 nobody.sock --shared-base="$(uri nobody)"
refused 2 'not an NBD URI' --shared-base="$tmp/source.qcow2"
refused 2 'once for each' --shared-base="$B" --shared-base="$B"
refused 2 destination-is-zero --shared-base="$B" --destination-is-zero
end_bg other
end_bg plain

# ---- only the top layer ----------------------------------------------------

echo "-- an idle guest: exactly the data of the top layer"
must_migrate --finish=detach --shared-base="$B" "$S" "$D"
same_content "$S" "$D"
# 1 MiB, a chunk around 5000000, and the last chunk, which is short; the rest
# of the top layer is zeroes.
expected=$((1024 * 1024 + chunk + size % chunk))
sent=$(copied_bytes "$tmp/requests")
echo "$sent bytes sent, $(completed zeroed_bytes) zeroed," \
     "$(completed skipped_bytes) skipped"
[ "$sent" -eq $expected ] || fail "$sent bytes were sent instead of $expected"
[ "$(completed copied_bytes)" -eq $expected ]
[ "$(completed zeroed_bytes)" -eq $((256 * 1024 + 128 * 1024)) ]
[ "$(completed skipped_bytes)" -eq \
  $((size - expected - 256 * 1024 - 128 * 1024)) ]

echo "-- the overlay on the destination is as small as that of the source"
stop_destination destination
top_bytes ()
{
  qemu-img map --output=json "$1" |
    jq 'map(select(.depth == 0).length) | add'
}
[ "$(top_bytes "$tmp/destination.qcow2")" -eq $((expected + 3 * 128 * 1024)) ]

# Parts that were left to the base, too.
echo "-- the destination is used after the detach, and copied to again"
start_destination used
must_migrate --finish=detach --shared-base="$B" "$S" "$D"
qemu-io -f raw -c "write -P 77 16M 1M" "$(uri behind)" > "$tmp/used.out"
must_migrate --finish=detach --shared-base="$B" "$S" "$D"
same_content "$S" "$D"
stop_destination used

echo "-- interrupted, and run again"
start_destination interrupted
start_migrate --finish=detach --restart --rate=512K --shared-base="$B" \
  "$S" "$D"
wait_for has_status "$S" \
  '.progress.copied_bytes > 0 and .unflushed_bytes + .leased_bytes > 0'
crash_bg migrator
must_migrate --finish=detach --shared-base="$B" "$S" "$D"
[ "$(completed resumed)" = true ]
same_content "$S" "$D"
sent=$(copied_bytes "$tmp/requests")
((sent <= 2 * expected)) || fail "$sent bytes were sent instead of $expected"
stop_destination interrupted

echo "-- a new overlay elsewhere, after the proxy was started again"
end_bg proxy
start_proxy proxy nbd socket="$tmp/top.sock" shared=true
start_destination elsewhere
must_migrate --finish=detach --shared-base="$B" "$S" "$D"
same_content "$S" "$D"
sent=$(copied_bytes "$tmp/requests")
[ "$sent" -eq $expected ] || fail "$sent bytes were sent instead of $expected"
stop_destination elsewhere

# ---- with a guest ----------------------------------------------------------

echo "-- a guest writes, zeroes and trims everywhere meanwhile"
nbdcopy "$S" "$tmp/before.raw"
start_guest guest "$S" --initial any --rate 4M "${kinds_for_qcow2[@]}"
for finish in detach pivot; do
  start_destination "for-$finish"
  must_migrate --finish=$finish --shared-base="$B" "$S" "$D"
  guest_goes_on guest
  [ $finish = pivot ] || verify_cut guest "$D" --base "$tmp/before.raw"
  echo "$finish: $(completed copied_bytes) bytes copied," \
       "$(completed skipped_bytes) skipped"
  (($(completed skipped_bytes) > 0)) || fail "nothing was left to the base"
  [ $finish = pivot ] || stop_destination "for-$finish"
done
stop_guest guest
verify_final guest "$D" --base "$tmp/before.raw"
end_bg proxy
stop_destination for-pivot
cmp "$tmp/base.raw" "$tmp/base-copy.raw"
