#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Where the source cannot be read through shared memory it is read over NBD:
# that is said, with the reason, and the copy is right.  A filter above ours may
# answer a request to cache by itself; only the slot tells.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/between.sh
source "$SRCDIR/tests/between.sh"
requires nbdkit jq nbdcopy sha256sum

size=$((3 * 1024 * 1024 + 512))
S=$(uri proxy) D=$(uri destination)

# reads_over_nbd REASON ARGUMENT...: of nbdmigrate.
reads_over_nbd ()
{
  local reason=$1

  shift
  must_migrate --finish=detach --restart --verify "$@" "$D"
  [ "$(completed 'disks[0].shared_memory')" = false ] ||
    fail "the memory was shared"
  completed 'disks[0].shared_memory_why'
  [[ $(completed 'disks[0].shared_memory_why') == *"$reason"* ]] ||
    fail "the reason is not: $reason"
  ! grep nbdmigrate-data "/proc/${pids[proxy]}/maps" || fail "it is mapped"
  cmp "$tmp/source" "$tmp/destination"
  truncate -s 0 "$tmp/destination"
  truncate -s $size "$tmp/destination"
}

head -c $size /dev/urandom > "$tmp/source"
truncate -s $size "$tmp/destination"
start_nbdkit destination file "$tmp/destination"

start_proxy proxy file "$tmp/source"
reads_over_nbd --no-shared-memory --no-shared-memory "$S"
port=$((20000 + seed % 10000))
start_between tcp tcp:127.0.0.1:$port "unix:$tmp/proxy.sock"
reads_over_nbd 'Unix socket' "nbd://127.0.0.1:$port"
start_between other '' "unix:$tmp/proxy.sock"
reads_over_nbd 'in between' "$(uri other)"
end_bg tcp
end_bg other
end_bg proxy

echo "---- above the filter"
for above in cache nocache; do
  start_nbdkit proxy --filter=$above --filter="$filter" file "$tmp/source" \
    migrate-dir="$tmp/proxy.dir"
  case $above in
  cache) reads_over_nbd 'a filter above' "$S" ;;
  nocache) reads_over_nbd 'not offer' "$S" ;;
  esac
  end_bg proxy
done
