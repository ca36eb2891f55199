#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# examples/hook/freeze.sh with a real guest and its QEMU guest agent: a copy that is
# made with it (--finish=detach) is a file system that was frozen, and needs no repair,
# while one without it has a journal to replay.  The guest goes on after it, also if
# nbdmigrate is killed while it is frozen.
#
# make check-recipes runs it; a guest that boots is too much for make check.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/guest/guest.sh
source "$SRCDIR/tests/guest/guest.sh"
# shellcheck source=tests/guest/agent.sh
source "$SRCDIR/tests/guest/agent.sh"
requires nbdkit python3
guest_prepare

agent=$SRCDIR/examples/hook/agent.py
hook=$SRCDIR/examples/hook/freeze.sh

answers ()
{
  "$agent" "$tmp/agent.sock" ping > "$tmp/ping" 2>&1
}

# copy ARGUMENT...: the guest's disk as it is at one instant, in $tmp/copy.
copy ()
{
  rm -f "$tmp/copy"
  truncate -s "${guest_disk_mib}M" "$tmp/copy"
  start_nbdkit destination file "$tmp/copy"
  must_migrate --finish=detach "$@" "$(uri proxy)" "$(uri destination)"
  end_bg destination
}

guest_make_agent
guest_make_disk "$tmp/source"
start_proxy proxy file "$tmp/source"
guest_start guest "server.type=unix,server.path=$tmp/proxy.sock" \
  "${guest_agent_device[@]}"
guest_works guest
wait_for answers
export AGENT=$tmp/agent.sock XDG_RUNTIME_DIR=$tmp

echo "-- without the hook"
copy
guest_disk_is_unclean "$tmp/copy" ||
  fail "a copy of a file system in use needs no repair"

echo "-- with it"
copy --hook="$hook"
! guest_disk_is_unclean "$tmp/copy" ||
  fail "it was not frozen: $(cat "$tmp/migrate.log")"
e2fsck -fn "$tmp/copy" || fail "e2fsck found something"
guest_works guest

echo "-- nbdmigrate is killed while the guest is frozen"
cat > "$tmp/hook" <<END
#!/usr/bin/env bash
source "$hook" "\$@"
if [ "\$1" = before ]; then
  : > "$tmp/frozen"
  kill -KILL \$PPID
fi
END
chmod +x "$tmp/hook"
truncate -s "${guest_disk_mib}M" "$tmp/destination"
start_nbdkit destination file "$tmp/destination"
! migrate --finish=pivot --hook="$tmp/hook" "$(uri proxy)" "$(uri destination)" ||
  fail "nbdmigrate was not killed"
[ -e "$tmp/frozen" ] || fail "the guest was not frozen: $(cat "$tmp/migrate.log")"
guest_works guest

echo "-- and a pivot with it"
must_migrate --finish=pivot --hook="$hook" "$(uri proxy)" "$(uri destination)"
guest_works guest
guest_verify guest
guest_stop guest
end_bg proxy
end_bg destination
guest_check_disk "$tmp/destination" guest
