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
slow=(--max-pause=4s) # which this is not about

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
# is_taken PORT: somebody listens there.
is_taken ()
{
  { : > "/dev/tcp/127.0.0.1/$1"; } 2> /dev/null
}
port=$((20000 + seed % 10000))
while is_taken $port; do port=$((port + 1)); done
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

echo "---- two answers with data on one connection"
# nbdkit before 1.34 may abort when a client is killed then, so that is as if
# memory had never been shared.
head -c 12M /dev/urandom > "$tmp/source"
truncate -s 12M "$tmp/destination"
start_nbdkit proxy --filter=log --filter=cache --filter="$filter" \
  --filter=delay file "$tmp/source" rdelay=5ms logfile="$tmp/requests" \
  migrate-dir="$tmp/proxy.dir"
reads_over_nbd 'a filter above' --request-size=64K "$S"
grep -q ' Read id=.*count=0x10000 ' "$tmp/requests" || fail "no long reads"
# Short ones, to look at a disk, may be several.
awk '{ c = $0; sub (/.*connection=/, "", c); sub (/ .*/, "", c)
       id = $0; sub (/.*Read id=/, "", id); sub (/ .*/, "", id) }
     / Read id=.*count=0x10000 / {
       if (++n[c] > 1) { print; bad = 1 }
       long[c, id] = 1
     }
     /\.\.\.Read id=/ && long[c, id] { n[c]-- }
     END { exit bad }' "$tmp/requests" > "$tmp/several" ||
  fail "they were in flight: $(head -n 1 "$tmp/several")"
end_bg proxy

echo "---- a read that fails, and a filter above that asks again"
# The answer is good then; what was not read is not taken for data.
mkdir "$tmp/failed"
start_nbdkit proxy --filter=retry-request --filter="$filter" eval \
  get_size="echo $size" can_multi_conn='exit 0' thread_model='echo parallel' \
  pread="
    if [ \$4 -eq 1048576 ] && mkdir $tmp/failed/\$4 2> /dev/null; then
      echo EIO the first time >&2
      exit 1
    fi
    tail -c +\$((\$4 + 1)) $tmp/source | head -c \$3" \
  retry-request-delay=1 migrate-dir="$tmp/proxy.dir"
truncate -s $size "$tmp/source" "$tmp/destination"
must_migrate --finish=detach --restart --request-size=256K "$S" "$D"
[ "$(completed 'disks[0].shared_memory')" = true ] ||
  fail "the memory was not shared: $(completed 'disks[0].shared_memory_why')"
[ -e "$tmp/failed/1048576" ] || fail "no read has failed"
cmp "$tmp/source" "$tmp/destination"
end_bg proxy

echo "---- found out in the copying, there are as many connections as otherwise"
# The plugin answers no long read behind the first MiB before it may.  The proxy
# has the migrator's ends of all of them by then, and one to the destination.

# has_sockets N: that so many of the migrator's sockets are the proxy's as well.
has_sockets ()
{
  local p

  for p in migrator proxy; do
    find "/proc/${pids[$p]}/fd" -lname 'socket:*' -printf '%l\n' |
      sort -u > "$tmp/$p.sockets"
  done
  [ "$(comm -12 "$tmp/migrator.sockets" "$tmp/proxy.sockets" | wc -l)" -eq "$1" ]
}

end_bg destination
start_nbdkit destination --filter=multi-conn file "$tmp/destination" \
  multi-conn-mode=disable
start_nbdkit proxy --filter=nocache --filter="$filter" eval \
  get_size="echo $size" can_multi_conn='exit 0' thread_model='echo parallel' \
  pread="
    i=0
    while [ \$3 -ge 65536 ] && [ \$4 -ge 1048576 ] && [ ! -e $tmp/go ]; do
      i=\$((i + 1))
      [ \$i -lt 1500 ] || { echo EIO in vain >&2; exit 1; }
      sleep 0.02
    done
    tail -c +\$((\$4 + 1)) $tmp/source | head -c \$3" \
  cachemode=nop migrate-dir="$tmp/proxy.dir"
start_migrate --finish=detach --restart --request-size=256K "$S" "$D"
wait_for has_sockets 9
touch "$tmp/go"
wait_bg migrator || fail "the migration ended with exit status $?"
[[ $(completed 'disks[0].shared_memory_why') == *'a filter above'* ]] ||
  fail "the reason is: $(completed 'disks[0].shared_memory_why')"
cmp "$tmp/source" "$tmp/destination"
end_bg proxy
