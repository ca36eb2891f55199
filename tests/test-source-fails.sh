#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A disk moves on from a server that fails a guest's flush, and crashes without what
# that was about, when the destination has it already.  What the guest has read there
# since is what it reads after the pivot (R14): that is copied again.  A filter that
# takes it for copied is caught.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "${SRCDIR:-.}/tests/late.sh"
requires nbdkit jq
# shellcheck source=tests/failing-source.sh
source "$SRCDIR/tests/failing-source.sh"

disk=64M # so large that no sample is likely to meet what is different

# begin OPTION...: it is at the server, and on its way to the next one.
begin ()
{
  rm -rf "$tmp"/{proxy.dir,place.img,next.img}
  truncate -s $disk "$tmp/place.img" "$tmp/next.img"
  late_forget place
  late_forget next
  start_late place volatile=1
  start_late next
  start_proxy proxy memory $disk migrate-max-gate=60s
  must_migrate "$(uri proxy)" "$(uri place)"
  # The second is what it is recognised by, and where samples are taken.
  guest 'h.pwrite (b"old " * 1024, 0)
h.pwrite (b"some" * (6 << 20), 1 << 20)
h.flush ()'
  start_migrate --wait "$@" "$(uri proxy)" "$(uri next)"
  wait_for is_ready
}

crash ()
{
  cue place
  crash_bg place
  start_late place volatile=1
  before=$(read_it)
  [ "$before" = "bytearray(b'old ')" ] || fail "the server has lost nothing"
}

# 1: it is not as the guest has read it.
judge ()
{
  local r=0

  wait_bg migrator || r=1
  if ((r == 0)); then
    [ "$(status .place)" = "$(uri next)" ]
    [ "$(read_it)" = "$before" ] || r=1
  fi
  end_bg proxy
  end_bg place
  end_bg next
  return $r
}

moves_on ()
{
  begin
  # From before on, as the filter flushes there when something was copied.
  cue place 'flush fail'
  guest 'h.pwrite (b"new " * 1024, 0)'
  wait_for is_copied
  expect_status 1 guest 'h.flush ()' 2> "$tmp/guest.log"
  grep -q 'Input/output error' "$tmp/guest.log"
  crash
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  judge
}

has_doubted ()
{
  grep -q 'the server where the disk is has failed a flush' "$tmp/proxy.log"
}

# It crashes in the pause, after the last look at it: what is marked is copied again,
# since a flush has failed, and what it loses then is copied already.  The commit is
# refused.
in_the_pause ()
{
  begin --max-pause=60s --converge=off
  cue place 'flush fail'
  # Both stay marked, as nothing is flushed any more.
  guest 'h.pwrite (b"new " * 1024, 0)
h.pwrite (b"more" * 1024, 2 << 20)'
  wait_for is_copied
  expect_status 1 guest 'h.flush ()' 2> "$tmp/guest.log"
  cue next 'write late ms=0 at=0' 'write hold until=copied at=2M'
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  wait_for late_has next 'write 0 .* answered$'
  wait_for late_has next 'write [1-9].* came$'
  # A flush may have failed once more meanwhile.
  has_status "$(uri proxy)" '.gate == "closed"' ||
    echo "it is not in the pause yet: what happens then was not tried"
  crash
  go next copied
  judge
}

moves_on || fail "what the guest had read was undone"
has_doubted || fail "it is not said"
echo "-- in the pause"
in_the_pause || fail "what the guest had read was undone"

filter=$BUILD/bug-failed_source_is_clean/nbdkit-migrate-filter.so
[ -e "$filter" ] ||
  skip "failed_source_is_clean was not built: make planted-bugs"
! moves_on || fail "nobody has noticed"
