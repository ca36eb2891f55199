#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# --shared-base mixed up: a base that is a source, a destination or another
# disk's base, of the same pair or another and however it is spelled, is refused
# before anything is written to any disk.  With two bases swapped, which nothing
# tells from outside, --verify finds the difference.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd qemu-img qemu-io nbdcopy

size=$((4 * 1024 * 1024))
S=() D=() B=() # by number, from 1

# An overlay over data on either side; only the source's holds something.
for i in 1 2; do
  truncate -s $size "$tmp/base$i.raw"
  qemu-io -f raw -c "write -P $i 0 $size" "$tmp/base$i.raw" > "$tmp/qemu-io.out"
  for side in source destination; do
    qemu-img create -q -f qcow2 -b "$tmp/base$i.raw" -F raw \
      "$tmp/$side$i.qcow2"
  done
  qemu-io -f qcow2 -c "write -P 1$i ${i}M 1M" "$tmp/source$i.qcow2" \
    > "$tmp/qemu-io.out"
  start_qemu_nbd top$i -e 32 -f qcow2 --allocation-depth "$tmp/source$i.qcow2"
  start_proxy proxy$i nbd socket="$tmp/top$i.sock" shared=true
  start_qemu_nbd behind$i -e 32 -f qcow2 "$tmp/destination$i.qcow2"
  start_nbdkit destination$i --filter=log nbd socket="$tmp/behind$i.sock" \
    shared=true logfile="$tmp/requests$i"
  S[i]=$(uri proxy$i) D[i]=$(uri destination$i) B[i]=$(uri top$i)
done

# other_words SERVER: another spelling of its URI.
other_words ()
{
  echo "nbd+unix:///?socket=$tmp/./$1.sock"
}

digests ()
{
  for i in 1 2; do
    nbdcopy "${B[i]}" - | sha256sum
  done
}
digests > "$tmp/before"

# refused STATUS TEXT ARGUMENT...
refused ()
{
  echo "-- $2"
  expect_status "$1" migrate --finish=detach "${@:3}"
  sed 's/^/   /' "$tmp/migrate.log"
  grep -qF -- "$2" "$tmp/migrate.log" || fail "this is not said: $2"
  ! grep -E ' (Write|Zero|Trim) ' "$tmp"/requests? ||
    fail "a destination was written to"
  digests | cmp - "$tmp/before" || fail "a source was written to"
}

both=(--shared-base="${B[1]}" --shared-base="${B[2]}")
pairs=("${S[1]}" "${D[1]}" "${S[2]}" "${D[2]}")

# ---- the same words --------------------------------------------------------

refused 2 "${B[1]}: this is a SOURCE or DESTINATION" \
  --shared-base="${B[1]}" "${S[1]}" "${B[1]}"
refused 2 "${S[1]}: this is a SOURCE or DESTINATION" \
  --shared-base="${S[1]}" "${pairs[@]:0:2}"
refused 2 "${B[1]}: this is a SOURCE or DESTINATION" "${both[@]}" \
  "${pairs[@]:0:3}" "${B[1]}"
refused 2 "${B[2]}: this is a SOURCE or DESTINATION" "${both[@]}" \
  "${S[1]}" "${B[2]}" "${pairs[@]:2}"
refused 2 "${B[1]} is given twice" "${pairs[@]}" \
  --shared-base="${B[1]}" --shared-base="${B[1]}"
# A relative path is the same words.
(
  cd "$tmp"
  refused 2 "this is a SOURCE or DESTINATION" \
    --shared-base='nbd+unix:///?socket=top1.sock' "${S[1]}" "${B[1]}"
)

# ---- other words -----------------------------------------------------------

# same TEXT A B: they are told to be the same disk.
same ()
{
  echo "the shared base '$2' and the $1 '$3' are the same disk"
}

other=$(other_words top1)
ln -s top1.sock "$tmp/alias.sock"
refused 1 "$(same destination "${B[1]}" "$other")" \
  --shared-base="${B[1]}" "${S[1]}" "$other"
refused 1 "$(same destination "${B[1]}" "$(uri alias)")" \
  --shared-base="${B[1]}" "${S[1]}" "$(uri alias)"
refused 1 "$(same destination "${B[1]}" "$other")" "${both[@]}" \
  "${pairs[@]:0:3}" "$other"
other=$(other_words top2)
refused 1 "$(same destination "${B[2]}" "$other")" "${both[@]}" \
  "${S[1]}" "$other" "${pairs[@]:2}"
refused 1 "$(same "shared base" "${B[2]}" "$other")" "${pairs[@]}" \
  --shared-base="${B[2]}" --shared-base="$other"

# A server of its own that says that it is a source.
qemu-img create -q -f qcow2 "$tmp/mirror.qcow2" $size
for i in 1 2; do
  id=$(status_of "${S[i]}" .id)
  start_qemu_nbd mirror -A -e 8 -f qcow2 -D "nbdmigrate: id=$id" \
    "$tmp/mirror.qcow2"
  refused 1 "$(same source "$(uri mirror)" "${S[i]}")" "${pairs[@]}" \
    --shared-base="$(uri mirror)" --shared-base="${B[2]}"
  end_bg mirror
done

for i in 1 2; do
  must_have_status "${S[i]}" '.tracking == false and .owner == "source"'
done

# ---- swapped ---------------------------------------------------------------

echo "-- swapped bases, with --verify"
expect_status 1 migrate --verify "${pairs[@]}" \
  --shared-base="${B[2]}" --shared-base="${B[1]}"
cat "$tmp/migrate.log"
grep -q 'returns other bytes .* --shared-base' "$tmp/migrate.log"
digests | cmp - "$tmp/before"

echo "-- and without it: a sample of what was left out is enough"
for i in 1 2; do # they know since where the destination is not as promised
  end_bg proxy$i
  rm -r "$tmp/proxy$i.dir"
  start_proxy proxy$i nbd socket="$tmp/top$i.sock" shared=true
done
expect_status 1 migrate --sample-seed=1 --finish=detach "${pairs[@]}" \
  --shared-base="${B[2]}" --shared-base="${B[1]}"
cat "$tmp/migrate.log"
grep -q 'does not hold .* --shared-base' "$tmp/migrate.log"
digests | cmp - "$tmp/before"

echo "-- nothing is wrong with them in their order"
must_migrate --finish=detach --verify "${both[@]}" "${pairs[@]}"
for i in 1 2; do
  same_content "${S[i]}" "${D[i]}"
done
