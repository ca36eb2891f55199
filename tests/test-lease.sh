#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# No more is leased than is copied in a moment: with --rate from the beginning,
# without it as soon as it is seen how fast is copied.  What guests write to what is
# leased is dirty again as soon as it is copied, and is not mirrored.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq

size=$((128 << 20))

begin ()
{
  rm -rf "$tmp/proxy.dir"
  start_proxy proxy file "$tmp/source.img"
  start_late server
}

# Meanwhile no write of the copy is answered.
must_lease_at_most ()
{
  local leased

  wait_for late_has server ' write .* came$'
  leased=$(status .leased_bytes)
  echo "   $leased bytes are leased"
  [ "$leased" -gt 0 ] || fail "nothing is leased"
  [ "$leased" -le "$1" ] || fail "more than $1"
}

end ()
{
  kill_bg migrator INT
  expect_status 3 wait_bg migrator
  end_bg proxy
  end_bg server
}

head -c $size /dev/urandom > "$tmp/source.img"
truncate -s $size "$tmp/server.img"

echo "-- a limit"
begin
cue server 'write hold until=now least=5000'
start_migrate --finish=detach --rate=4M "$(uri proxy)" "$(uri server)"
must_lease_at_most $((2 << 20))
go server now
end

echo "-- a slow destination"
begin
cue server 'write late ms=100'
start_migrate --finish=detach --connections=1 --background=0 "$(uri proxy)" \
  "$(uri server)"
half_is_copied ()
{
  [ "$(status '.dirty_bytes + .leased_bytes')" -lt $((size / 2)) ]
}
wait_for half_is_copied
cue server 'write hold until=then'
must_lease_at_most $((16 << 20))
go server then
end
