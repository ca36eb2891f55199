#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A destination that was lost comes back and admits one connection only, of the
# several that there were: the migration goes on with that one, reads with it
# as well, and tries less and less often to have more.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/reconnect.sh
source "$SRCDIR/tests/reconnect.sh"
requires nbdkit jq

nr_refused ()
{
  grep -c 'too many clients' "$tmp/destination.log" || :
}

are_refused ()
{
  [ "$(nr_refused)" -ge "$1" ]
}

start_proxy proxy memory 8M
fill "$(uri proxy)" 70
truncate -s 8M "$tmp/disk"
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 500K
start_nbdkit destination --filter=delay file "$tmp/disk" wdelay=2
start_migrate --wait --finish=detach --connections=3 "$(uri proxy)" \
  "$(uri destination)"
must_live=(migrator)
wait_for has_status "$(uri proxy)" '.progress.phase == "bulk" and
  .leased_bytes > 4000000'
lose destination
start_nbdkit destination --filter=limit file "$tmp/disk" limit=1
wait_for has_events reconnected 1

# However slow all is, the eleventh of two series comes seconds after the first.
back_ms=$(date +%s%3N)
refused=$(nr_refused)
wait_for are_refused $((refused + 11))
ms=$(($(date +%s%3N) - back_ms))
[ $ms -ge 2000 ] || fail "tried 11 times in $ms ms"
wait_for is_ready
guest_goes_on guest
"$nbdmigrate" finish --no-wait "$(uri proxy)"
must_live=()
wait_bg migrator || fail "the migrator ended with exit status $?"
stop_guest guest
verify_cut guest "$(uri destination)"
