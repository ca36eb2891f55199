#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# The guest first, also while the destination of one of two disks is lost and
# waited for: the other one is copied meanwhile, beside its guest.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq

# A disk that does one request at a time, a millisecond each: what the copy has
# in its queue goes before the guest's.  The limit that keeps half of it is far from
# the least that there is, at which it would not change any more, and the disk is
# large enough for the other one's copy not to end meanwhile.
# start N
start ()
{
  start_nbdkit "disk$1" --filter=noparallel --filter=delay memory 256M \
    serialize=all-requests delay-read=1ms delay-write=1ms
  start_proxy "proxy$1" nbd "$(uri "disk$1")"
  fill "$(uri "proxy$1")" 100 > "$tmp/fill.out"
  truncate -s 256M "$tmp/image$1"
  start_nbdkit "destination$1" file "$tmp/image$1"
}

# backs_off_after EVENT: the limit of the copy has changed since the last of these.
backs_off_after ()
{
  [ "$(event "(map(.event == \"$1\") | rindex(true)) as \$i | \$i != null and
      (.[\$i:] | any(.event == \"policy\" and .decision == \"background\"))")" = \
    true ]
}

start 1
start 2
start_guest guest "$(uri proxy1)" --depth 1 --kinds rw --initial "$pattern"
start_migrate --background=50 --request-size=64K --wait \
  "$(uri proxy1)" "$(uri destination1)" "$(uri proxy2)" "$(uri destination2)"
must_live=(migrator)
wait_for backs_off_after started

echo "-- one is lost"
lose destination2
wait_for backs_off_after lost

echo "-- and back"
start_nbdkit destination2 file "$tmp/image2"
wait_for has_events reconnected 1
wait_for backs_off_after reconnected
must_live=()
"$nbdmigrate" cancel "$(uri proxy1)"
expect_status 3 wait_bg migrator
stop_guest guest
