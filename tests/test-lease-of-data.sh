#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Behind a long hole there is no long lease of data: a crash would quarantine
# all of it.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

hole=$((6 << 30)) data=$((256 << 20)) size=$(((6 << 30) + (256 << 20)))
truncate -s $hole "$tmp/source.img"
head -c $data /dev/urandom >> "$tmp/source.img"
truncate -s $size "$tmp/server.img"
start_proxy proxy file "$tmp/source.img"
start_late server
cue server 'write hold until=now least=5000'

start_migrate --finish=detach --destination-is-zero "$(uri proxy)" \
  "$(uri server)"
wait_for late_has server ' write .* came$'
leased_little ()
{
  leased=$(status .leased_bytes)
  ((leased > 0 && leased <= 160 << 20))
}
wait_for leased_little
echo "   $leased bytes are leased"
cue server
go server now
wait_bg migrator || fail "the migration failed"
end_bg proxy
cmp -i $hole "$tmp/source.img" "$tmp/server.img"
[ "$(completed copied_bytes)" -eq $data ] || fail "not copied once"
end_bg server
