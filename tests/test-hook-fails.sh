#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# A --hook that always fails is tried ten times, a second apart.  Nothing is done to
# the guest for that, nor is it called a pause that was too long.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((2 * 1024 * 1024))
start_proxy proxy memory $size
start_nbdkit destination memory $size
S=$(uri proxy) D=$(uri destination)
fill "$S" 100

cat > "$tmp/hook" <<END
#!/bin/sh
echo "\$1" >> "$tmp/log"
[ "\$1" = after ] || exit 7
END
chmod +x "$tmp/hook"
start_guest guest "$S" --kinds w --rate 512K
expect_status 4 migrate --finish=detach --hook="$tmp/hook" "$S" "$D"
stop_guest guest
cat "$tmp/migrate.log"
[ "$(grep -c '^before' "$tmp/log")" -eq 10 ]
[ "$(grep -c '^after' "$tmp/log")" -eq 10 ]
[ "$(grep -c 'it will be tried again' "$tmp/migrate.log")" -eq 9 ]
grep -q 'the hook .* has failed ten times in a row' "$tmp/migrate.log"
grep -q 'authoritative; once that is settled, run it again' "$tmp/migrate.log"
if grep -E 'converge|guests may write|--max-pause' "$tmp/migrate.log"; then
  fail "it is said of the pause"
fi
[ "$(event 'map(select(.event == "pause")) | length')" -eq 0 ]
