#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Real servers as source and as destination, each with a guest writing
# meanwhile: the destination is the disk at one instant of the pause.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd qemu-img

size=$((8 * 1024 * 1024 + 512))
round=0

start_source ()
{
  kinds=()
  truncate -s $size "$tmp/source$round"
  case $1 in
  file)
    start_proxy proxy file "$tmp/source$round" ;;
  memory)
    start_proxy proxy memory $size ;;
  no-multi-conn)
    start_proxy proxy --filter=multi-conn memory $size \
      multi-conn-mode=disable ;;
  serialize-requests)
    start_proxy proxy --filter=noparallel file "$tmp/source$round" \
      serialize=requests ;;
  poor) # nothing but reads, writes and flushes
    start_proxy proxy --filter=nozero --filter=noextents \
      --filter=multi-conn file "$tmp/source$round" \
      zeromode=none multi-conn-mode=disable ;;
  nbd) # a relay to a server that has qcow2
    kinds=("${kinds_for_qcow2[@]}")
    qemu-img create -q -f qcow2 "$tmp/source$round.qcow2" $size
    start_qemu_nbd behind -e 16 -f qcow2 --discard=unmap \
      "$tmp/source$round.qcow2"
    start_proxy proxy nbd socket="$tmp/behind.sock" shared=true ;;
  esac
}

start_destination ()
{
  local image=$tmp/destination$round

  case $1 in
  nbdkit-file)
    truncate -s $size "$image"
    start_nbdkit destination file "$image" ;;
  nbdkit-memory)
    start_nbdkit destination memory $size ;;
  larger)
    start_nbdkit destination memory $((size + 70000)) ;;
  small-requests)
    start_nbdkit destination --filter=blocksize-policy memory $size \
      blocksize-minimum=1 blocksize-preferred=4096 blocksize-maximum=65536 \
      blocksize-error-policy=error ;;
  qemu-raw | qemu-raw-one-client)
    truncate -s $size "$image"
    [ "$1" = qemu-raw ] && more=(-e 16) || more=()
    start_qemu_nbd destination "${more[@]}" -f raw "$image" ;;
  qemu-qcow2 | qemu-qcow2-one-client)
    qemu-img create -q -f qcow2 "$image" $size
    [ "$1" = qemu-qcow2 ] && more=(-e 16) || more=()
    start_qemu_nbd destination "${more[@]}" -f qcow2 --discard=unmap \
      "$image" ;;
  esac
}

# try SOURCE DESTINATION
try ()
{
  local name

  round=$((round + 1))
  echo "-- $1 to $2"
  start_source "$1"
  start_destination "$2"
  fill "$(uri proxy)" 50 > "$tmp/fill.out"
  start_guest "guest$round" "$(uri proxy)" --initial "$pattern" "${kinds[@]}"
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  guest_goes_on "guest$round"
  verify_cut "guest$round" "$(uri destination)"
  stop_guest "guest$round"
  verify_final "guest$round" "$(uri proxy)"
  for name in proxy behind destination; do
    [ -z "${pids[$name]:-}" ] || end_bg $name
  done
}

for source in file memory no-multi-conn serialize-requests poor nbd; do
  try $source nbdkit-memory
done
for destination in nbdkit-file larger small-requests qemu-raw \
                   qemu-raw-one-client qemu-qcow2 qemu-qcow2-one-client; do
  try file $destination
done
try nbd qemu-qcow2
