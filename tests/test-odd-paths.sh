#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Sockets and a migrate-dir whose paths have a blank, and other characters that a URI
# cannot have: as users write them, and percent-encoded.  What is printed, kept in
# migrate-dir, given to libnbd and read again after a restart is one and the same URI.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy jq

size=$((4 * 1024 * 1024))
odd="$tmp/a b [c] ü"
encoded="$tmp/a%20b%20%5Bc%5D%20%C3%BC"
dir="$odd/proxy dir"
mkdir "$odd"
truncate -s $size "$tmp/source" "$tmp/there" "$tmp/else"

S="nbd+unix:///?socket=$odd/proxy.sock"
D="nbd+unix:///?socket=$odd/there.sock"
E="nbd+unix:///?socket=$odd/else.sock"
S_encoded="nbd+unix:///?socket=$encoded/proxy.sock"
D_encoded="nbd+unix:///?socket=$encoded/there.sock"
E_encoded="nbd+unix:///?socket=$encoded/else.sock"

start_proxy_there ()
{
  listen=(-U "$odd/proxy.sock")
  rm -f "$odd/proxy.sock"
  start_nbdkit proxy --filter="$filter" file "$tmp/source" migrate-dir="$dir"
}

# start_server NAME: of $tmp/NAME.
start_server ()
{
  listen=(-U "$odd/$1.sock")
  rm -f "$odd/$1.sock"
  start_nbdkit "$1" file "$tmp/$1"
}

# says TEXT FILE
says ()
{
  grep -qF -- "$1" "$2" || fail "not said: $1 in $(cat "$2")"
}

# destination_is URI: whoever is asked, and however.
destination_is ()
{
  local where

  for where in "$S" "$S_encoded" "$dir"; do
    [ "$(status_of "$where" .destination)" = "$1" ] ||
      fail "the destination is $(status_of "$where" .destination)"
  done
}

start_proxy_there
start_server there
start_server else
fill "$S_encoded" 100

echo "-- a copy"
must_migrate --finish=detach "$S" "$D"
says "$D_encoded" "$tmp/migrate.log"
[ "$(event '.[0].disks[0].destination')" = "$D_encoded" ] ||
  fail "the event has another destination: $(event '.[0]')"
destination_is "$D_encoded"
same_content "$S_encoded" "$D_encoded"

echo "-- is gone on with after a restart, however it is named"
end_bg proxy
start_proxy_there
must_migrate --finish=detach --incremental "$S_encoded" "$D_encoded"
[ "$(completed resumed)" = true ] || fail "$(cat "$tmp/migrate.log")"
(cd "$odd" && must_migrate --finish=detach --incremental \
                "nbd+unix:///?socket=proxy.sock" "nbd+unix:///?socket=there.sock")
[ "$(completed resumed)" = true ] || fail "$(cat "$tmp/migrate.log")"

echo "-- a pivot"
must_migrate "$S" "$D"
destination_is "$D_encoded"
same_content "$S_encoded" "$D_encoded"
end_bg proxy
[ "$(status_of "$dir" .destination)" = "$D_encoded" ]
"$nbdmigrate" status "$dir" > "$tmp/status"
says "$D_encoded" "$tmp/status"
start_proxy_there
same_content "$S_encoded" "$D_encoded"
"$nbdmigrate" list > "$tmp/list"

echo "-- another address"
crash_bg there # the proxy would hold it
cp "$tmp/there" "$tmp/else"
"$nbdmigrate" reopen "$dir" destination="$E" > "$tmp/reopen" 2>&1 ||
  fail "reopen: $(cat "$tmp/reopen")"
destination_is "$E_encoded"
same_content "$S_encoded" "$E_encoded"

echo "-- and back"
must_migrate "$S" local:
same_content "$S_encoded" "$E_encoded"

echo "-- what cannot be meant"
expect_status 2 migrate --check "$S" "nbd+unix:///a b?socket=$odd/there.sock"
says 'must be percent-encoded' "$tmp/migrate.log"
