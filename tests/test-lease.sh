#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 90
#
# After the bulk no more is leased than is copied in a moment: with --rate, and without
# it on a slow line as soon as that is seen.  What guests write to what is leased is
# dirty again as soon as it is copied, and is not mirrored.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
requires nbdkit jq nbdcopy

size=$((128 << 20))
head -c $size /dev/urandom > "$tmp/data"

# begin OPTION...: an empty disk is in sync, and then written all over.
begin ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/source.img" "$tmp/server.img"
  truncate -s $size "$tmp/source.img" "$tmp/server.img"
  start_proxy proxy file "$tmp/source.img"
  start_late server
  start_migrate --finish=detach --converge=off --wait "$@" "$(uri proxy)" \
    "$(uri server)"
  wait_for is_ready
}

write_all_over ()
{
  nbdcopy "$tmp/data" "$(uri proxy)"
}

# hold_writes RULE: and note how many have come by now.
hold_writes ()
{
  seen=$(grep -c ' write .* came$' "$tmp/server.cue/log" || :)
  cue server "$1"
}

# Meanwhile no write of the copy is answered.
must_lease_at_most ()
{
  local leased

  wait_for late_has server ' write .* came$' $((seen + 1))
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

# is_copied BYTES: of what was written.
is_copied ()
{
  [ "$(status '.dirty_bytes + .leased_bytes')" -lt $((size - $1)) ]
}

echo "-- a limit"
begin --rate=4M --connections=1 --depth=4 --request-size=256K
write_all_over
wait_for is_copied $((8 << 20))
hold_writes 'write hold until=now'
must_lease_at_most $((6 << 20))
go server now
end

echo "-- a slow destination"
begin --connections=1 --depth=8 --request-size=256K
cue server 'write late ms=100'
write_all_over
wait_for is_copied $((size / 2))
hold_writes 'write hold until=later'
must_lease_at_most $((16 << 20))
go server later
end
