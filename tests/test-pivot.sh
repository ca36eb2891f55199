#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A pivot: the guest's one session goes on across the cut-over, on destinations
# that offer less than the source did, smaller and larger requests, and other
# block sizes.  All that was acknowledged is on the destination, and nothing
# that came after the pause is on the source.
#
# timeout: 180

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd qemu-img qemu-io

size=$((8 * 1024 * 1024 + 512))
round=0

start_source ()
{
  rm -rf "$tmp/proxy.dir"
  truncate -s $size "$tmp/source$round"
  case $1 in
  file)
    start_proxy proxy file "$tmp/source$round" ;;
  no-multi-conn) # all connections share one context
    start_proxy proxy --filter=multi-conn file "$tmp/source$round" \
      multi-conn-mode=disable ;;
  poor) # the guest is offered little, the destination can do more
    start_proxy proxy --filter=nozero --filter=noextents --filter=fua \
      file "$tmp/source$round" zeromode=none ;;
  esac
}

start_destination ()
{
  local image=$tmp/destination$round

  truncate -s $size "$image"
  destination=$(uri destination)
  kinds=()
  case $1 in
  file)
    start_nbdkit destination file "$image" ;;
  memory-larger)
    start_nbdkit destination memory $((size + 70000)) ;;
  no-multi-conn)
    start_nbdkit destination --filter=multi-conn file "$image" \
      multi-conn-mode=disable ;;
  poor) # reads, writes and flushes, nothing else
    start_nbdkit destination --filter=nozero --filter=noextents --filter=fua \
      --filter=nocache file "$image" zeromode=none \
      cachemode=none ;;
  small-requests)
    start_nbdkit destination --filter=blocksize-policy memory $size \
      blocksize-minimum=1 blocksize-preferred=4096 blocksize-maximum=65536 \
      blocksize-error-policy=error ;;
  blocks-of-4096)
    start_nbdkit destination --filter=blocksize-policy memory \
      $((size + 4096 - 512)) blocksize-minimum=4096 blocksize-preferred=4096 \
      blocksize-maximum=1M blocksize-error-policy=error ;;
  tls)
    start_nbdkit destination --tls=require --tls-psk="$tmp/psk" file "$image"
    destination="nbds+unix://guest@/?socket=$tmp/destination.sock"
    destination+="&tls-psk-file=$tmp/psk" ;;
  qemu-raw)
    start_qemu_nbd destination -e 16 -f raw --discard=unmap "$image" ;;
  qemu-qcow2)
    kinds=("${kinds_for_qcow2[@]}")
    rm "$image"
    qemu-img create -q -f qcow2 "$image" $size
    start_qemu_nbd destination -e 16 -f qcow2 --discard=unmap "$image" ;;
  esac
}

# verify_source: it is the disk as it was in the pause.
verify_source ()
{
  start_nbdkit behind file "$tmp/source$round"
  verify_cut "guest$round" "$(uri behind)" > "$tmp/verdict"
  end_bg behind
}

# try SOURCE DESTINATION [ARGUMENT...]
try ()
{
  local what="$1 to $2"

  round=$((round + 1))
  start_source "$1"
  start_destination "$2"
  shift 2
  fill "$(uri proxy)" 50 > "$tmp/fill.out"
  start_guest "guest$round" "$(uri proxy)" --initial "$pattern" --depth 16 \
    "${kinds[@]}"
  must_migrate "$@" "$(uri proxy)" "$destination"
  guest_goes_on "guest$round" 300
  [ "$(completed finish)" = pivot ]
  [ "$(status .owner)" = destination ]
  stop_guest "guest$round" > "$tmp/guest.report"
  verify_final "guest$round" "$(uri proxy)" > "$tmp/verdict"
  end_bg proxy
  # The referee knows no keys.
  if [ "$destination" != "$(uri destination)" ]; then
    end_bg destination
    start_nbdkit destination file "$tmp/destination$round"
  fi
  verify_final "guest$round" "$(uri destination)" > "$tmp/verdict"
  verify_source
  end_bg destination
  echo "$what: pause $(completed pause_ms) ms, longest write" \
    "$(jq .longest_write_ms "$tmp/guest$round.out") ms"
}

printf 'guest:%s\n' "$(head -c 32 /dev/urandom | od -A n -t x1 | tr -d ' \n')" \
  > "$tmp/psk"

try file file --verify
for destination in memory-larger no-multi-conn poor small-requests \
                   blocks-of-4096 tls qemu-raw qemu-qcow2; do
  try file $destination
done
try no-multi-conn file
try poor file

# ---- what reaches the destination ------------------------------------------

# count PATTERN: of lines in the destination's log.
count ()
{
  grep -cE "$1" "$tmp/destination.trace" || :
}

# guest COMMAND...: of qemu-io, on a connection of its own.
guest ()
{
  local args=()

  for c in "$@"; do args+=(-c "$c"); done
  qemu-io -f raw "${args[@]}" "$(uri proxy)" \
    > "$tmp/qemu-io.out"
}

# try_flush FILTER-ARGUMENT...: of the destination.
try_flush ()
{
  local before

  round=$((round + 1))
  start_source file
  truncate -s $size "$tmp/destination$round"
  start_nbdkit destination --filter=log "$@" file "$tmp/destination$round" \
    logfile="$tmp/destination.trace"
  must_migrate "$(uri proxy)" "$(uri destination)"
  before=$(count ' Flush ')
  guest 'write -P 1 0 4k' 'flush'
  [ "$(count ' Flush ')" -gt "$before" ] || fail "the flush is lost"
  before=$(count 'Flush |Write .*fua=1')
  guest 'write -f -P 2 8k 4k'
  [ "$(count 'Flush |Write .*fua=1')" -gt "$before" ] || fail "FUA is lost"
  end_bg proxy
  end_bg destination
}

echo "-- flush and FUA reach the destination"
try_flush
try_flush --filter=fua
