#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# After a handover guests can be dropped instead of being told, where nbdkit can do
# that (1.34 and later); who comes afterwards is told.  An older one refuses to start.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit
/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

# A guest that reads now and once more when there is a file "go", and says with
# what error, and whether it is connected then.
start_reader ()
{
  rm -f "$tmp/go"
  start_bg reader /usr/bin/python3 -u -c "import errno, nbd, os, sys, time
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pread (512, 0)
print ('served')
while not os.path.exists (sys.argv[2]):
    time.sleep (0.02)
try:
    h.pread (512, 0)
except nbd.Error as e:
    print (e.errno, h.aio_is_ready ())" "$(uri proxy)" "$tmp/go"
  wait_for is_file "$tmp/reader.out"
}

# told WHAT: to the guest after a handover.
told ()
{
  touch "$tmp/go"
  wait_bg reader || fail "the guest failed: $(cat "$tmp/reader.log")"
  [ "$(tail -n 1 "$tmp/reader.out")" = "$1" ] ||
    fail "it was told '$(tail -n 1 "$tmp/reader.out")', not '$1'"
}

newcomer_is_told ()
{
  expect_status 1 /usr/bin/python3 -c 'import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
h.pread (512, 0)' "$(uri proxy)" 2> "$tmp/newcomer.log"
  grep -q ESHUTDOWN "$tmp/newcomer.log" || fail "$(cat "$tmp/newcomer.log")"
}

start_nbdkit destination memory 1M

echo "-- as ever"
start_proxy proxy memory 1M migrate-disconnect=false
start_reader
must_migrate --finish=handover "$(uri proxy)" "$(uri destination)"
told 'ESHUTDOWN True'
end_bg proxy
rm -r "$tmp/proxy.dir"

if ! nbdkit_is_at_least 34; then
  echo "-- this nbdkit cannot"
  expect_status 1 nbdkit -U - --filter="$filter" memory 1M \
    migrate-dir="$tmp/proxy.dir" migrate-disconnect=true 2> "$tmp/refused.log"
  grep -q '1.34 and later can' "$tmp/refused.log" ||
    fail "$(cat "$tmp/refused.log")"
  exit 0
fi

echo "-- dropped"
start_proxy proxy memory 1M migrate-disconnect=true
start_reader
must_migrate --finish=handover "$(uri proxy)" "$(uri destination)"
told 'ENOTCONN False'
newcomer_is_told

echo "-- also when it is served again, and started again"
"$nbdmigrate" reopen "$(uri proxy)" owner=source
start_reader
touch "$tmp/go"
wait_bg reader || fail "the guest failed: $(cat "$tmp/reader.log")"
[ "$(cat "$tmp/reader.out")" = served ] || fail "$(cat "$tmp/reader.out")"
must_migrate --finish=handover --restart "$(uri proxy)" "$(uri destination)"
end_bg proxy
start_proxy proxy memory 1M migrate-disconnect=true
newcomer_is_told
