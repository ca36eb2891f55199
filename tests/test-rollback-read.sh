#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A pivot is taken back because of other disks.  What the guest read at the
# destination meanwhile says nothing about what it must hold later: the migrator
# writes there again.  After the pivot the destination is lost and comes back:
# it is still the disk.
#
# timeout: 60

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-io

for i in source destination; do
  head -c 1M /dev/zero | tr '\0' '\1' > "$tmp/$i"
done
start_proxy proxy file "$tmp/source" migrate-reconnect=60s
start_nbdkit destination file "$tmp/destination"
S=$(uri proxy) D=$(uri destination)

# copied: as a migrator does it that has copied what is dirty.
copied ()
{
  local extents

  talk take '{"cursor": 0, "max_bytes": 1073741824}'
  extents=$(answered '.return.extents | map(.[0:2]) | tojson')
  talk "done" "{\"extents\": $extents, \"epoch\": $epoch}"
  talk flush-begin
  talk flush-end "{\"success\": true, \"epoch\": $epoch}"
}

# commit: and keep the gate shut, for the sake of other disks.
commit ()
{
  talk hold '{"deadline_ms": 5000}'
  token=$(answered .return.token)
  talk commit "{\"token\": \"$token\", \"finish\": \"pivot\", \"together\": true}"
}

qemu-io -f raw -r -c 'read -P 1 0 4k' "$S" # opens the export
start_talker proxy
talk attach '{"export": ""}'
talk begin "{\"destination\": \"$D\"}"
epoch=$(answered .return.epoch)
talk prepare "{\"destination\": \"$D\", \"finish\": \"pivot\"}"
copied
commit
qemu-io -f raw -r -c 'read -P 1 0 4k' "$S"
talk rollback "{\"token\": \"$token\"}"
talk release "{\"token\": \"$token\"}"
qemu-io -f raw -c 'write -P 2 0 4k' -c flush "$S"
qemu-io -f raw -c 'write -P 2 0 4k' -c flush "$D"
copied
commit
talk release "{\"token\": \"$token\"}"
stop_talker
must_have_status "$S" '.owner == "destination"'
crash_bg destination
wait_for has_status "$S" '.relay.losses == 1'
start_nbdkit destination file "$tmp/destination"
qemu-io -f raw -r -c 'read -P 2 0 4k' "$S" > "$tmp/read.out" ||
  fail "it does not go on: $(cat "$tmp/read.out" "$tmp/proxy.log")"
! grep -i 'pattern\|error' "$tmp/read.out" || fail "it reads something else"
end_bg proxy
