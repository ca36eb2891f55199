#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a service manager is told: that it is ready, how far it is, that it ends.
# The hook does not talk to it, and a manager that is gone ends nothing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit python3

cat > "$tmp/manager.py" <<'END'
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1] if sys.argv[1][0] == "/" else "\0" + sys.argv[1][1:])
print("bound", flush=True)
while True:
    print(s.recv(4096).decode(), flush=True)
END
cat > "$tmp/hook" <<'END'
#!/bin/sh
echo "${NOTIFY_SOCKET-none}" >> "$0.says"
END
chmod +x "$tmp/hook"

truncate -s 1M "$tmp/disk" "$tmp/there"
start_proxy proxy file "$tmp/disk"
start_nbdkit there file "$tmp/there"

for address in "$tmp/manager" "@nbdmigrate-test-$$"; do
  echo "-- $address"
  start_bg manager python3 "$tmp/manager.py" "$address"
  wait_for grep -q bound "$tmp/manager.out"
  NOTIFY_SOCKET=$address must_migrate --finish=detach --hook="$tmp/hook" \
    "$(uri proxy)" "$(uri there)"
  wait_for grep -qx STOPPING=1 "$tmp/manager.out"
  sed -n 's/=.*//p' "$tmp/manager.out" | uniq > "$tmp/said"
  [ "$(grep -xc READY=1 "$tmp/manager.out")" = 1 ] || fail "it was not ready once"
  grep -q '^STATUS=.*%' "$tmp/manager.out" || fail "no progress was told"
  [ "$(sed -n '/READY/,$p' "$tmp/said" | tail -n 1)" = STOPPING ] ||
    fail "STOPPING is not the last word"
  crash_bg manager
done
grep -qx none "$tmp/hook.says" || fail "the hook was not run"
! grep -vx none "$tmp/hook.says" || fail "the hook has the manager's socket"

echo "-- nobody is there"
NOTIFY_SOCKET=$tmp/manager must_migrate --finish=detach "$(uri proxy)" \
  "$(uri there)"
NOTIFY_SOCKET=nonsense must_migrate --finish=detach "$(uri proxy)" "$(uri there)"
