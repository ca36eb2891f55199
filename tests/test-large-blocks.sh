#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination that takes nothing smaller than 64 KiB, while the filter's chunks
# have 4 KiB: it is copied to, mirrored to, lived on by a guest whose writes are
# smaller, and left again (R12, R19).
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/mirror.sh
source "$SRCDIR/tests/mirror.sh"
requires nbdkit jq qemu-io

block=65536
size=$((4 * 1024 * 1024 + 512)) # the last block of the disk has 512 bytes
S=$(uri proxy) D=$(uri destination)

# start_large NAME FILE BYTES: it refuses what is no whole block.
start_large ()
{
  truncate -s $((($3 + block - 1) / block * block)) "$2"
  start_nbdkit "$1" --filter=blocksize-policy file "$2" \
    blocksize-minimum=$block blocksize-preferred=$block \
    blocksize-maximum=1M blocksize-error-policy=error
}

must_have_chunks ()
{
  [ "$(status .chunk_bytes)" -eq "$1" ] ||
    fail "chunks have $(status .chunk_bytes) bytes, not $1"
}

echo "-- mirrored to: whole blocks only"
start_proxy proxy memory $((4 * block)) migrate-max-gate=60s
start_large destination "$tmp/mirror" $((4 * block))
qemu-io -f raw -c "write -P 1 0 100" "$S" > "$tmp/io.out"
start_talker proxy
talk attach
for bytes in 0 3000 131072; do
  ask begin "{\"destination\": \"$D\", \"block_bytes\": $bytes}"
  [[ $answer == *BadArgument*block_bytes*": $bytes is"* ]] || fail "$answer"
done
talk begin "{\"destination\": \"$D\", \"block_bytes\": $block}"
[ "$(answered .return.chunk_bytes)" -eq $block ] || fail "$answer"
epoch=$(answered .return.epoch)

# copy EXTENTS: these are what there is to copy.
copy ()
{
  local extents=$1

  talk take "{\"cursor\": 0, \"max_bytes\": $((4 * block))}"
  [ "$(answered '.return.extents | map([.[0], .[1]]) | tojson')" = "$extents" ] ||
    fail "not $extents: $answer"
  "$BUILD/tests/copy-extents" "$S" "$D" <<< "$answer"
  talk "done" "{\"epoch\": $epoch, \"extents\": $extents}"
  flush_all
}

copy "[[0,$((4 * block))]]"
mirror_on
write_to 0 17 $block
must_be_tracked ".mirror.writes == 1 and .dirty_bytes == 0 and
  .unflushed_bytes == $block"
write_to $((2 * block - 512)) 18 1024
must_be_tracked ".mirror.writes == 1 and .dirty_bytes == 2 * $block"
copy "[[$block,$((2 * block))]]"
must_be_tracked '.remaining_bytes == 0 and .unflushed_bytes == 0'
nbdcopy "$S" - | cmp - "$tmp/mirror"
talk end
stop_talker
end_bg destination
end_bg proxy
rm -r "$tmp/proxy.dir"

echo "-- copied to, while a guest writes"
truncate -s $size "$tmp/source"
start_proxy proxy file "$tmp/source"
start_large destination "$tmp/large" $size
# The referee reads as it likes.
start_nbdkit plain file "$tmp/large"
fill "$S" 60
start_guest guest "$S" --initial "$pattern" --depth 8 --cells 1024
must_have_chunks 4096
must_migrate --finish=detach --verify "$S" "$D"
verify_cut guest "$(uri plain)"
must_have_chunks $block

echo "-- once more, only what has changed"
guest_goes_on guest
must_migrate --finish=detach --incremental "$S" "$D"
verify_cut guest "$(uri plain)"
must_have_chunks $block

echo "-- another destination does not need that"
start_nbdkit small memory $size
must_migrate --finish=detach "$S" "$(uri small)"
verify_cut guest "$(uri small)"
must_have_chunks 4096

echo "-- lived on, by the guest with its small writes"
must_migrate --finish=pivot "$S" "$D"
guest_goes_on guest 500

echo "-- and left again"
must_migrate --finish=detach "$S" "$(uri small)"
verify_cut guest "$(uri small)"
stop_guest guest
verify_final guest "$S"
verify_final guest "$(uri plain)"
end_bg proxy # before its destination
