#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# One migration moves as many disks of one proxy as the manual says; with one
# more it is refused before anything is connected.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit jq cmp

most=100

grep -qF "At most $most disks" "$SRCDIR/docs/nbdmigrate.pod" ||
  fail "the manual says another number"

mkdir "$tmp/sources" "$tmp/destinations"
pairs=()
for ((i = 0; i < most; i++)); do
  head -c 64K /dev/urandom > "$tmp/sources/$i"
  truncate -s 64K "$tmp/destinations/$i"
  pairs+=("$(export_uri proxy $i)" "$(export_uri destination $i)")
done

echo "-- too many"
expect_status 2 migrate "${pairs[@]}" "$(export_uri nowhere 1)" \
  "$(export_uri nowhere 2)"
sed 's/^/   /' "$tmp/migrate.log"
grep -qF "at most $most" "$tmp/migrate.log"

echo "-- as many as can be"
start_proxy proxy file dir="$tmp/sources" migrate-named-exports=true \
  migrate-max-gate=30s
start_nbdkit destination file dir="$tmp/destinations"
# The pause is not what this is about, and a hundred disks have theirs together.
must_migrate --finish=detach --max-pause=30s "${pairs[@]}"
echo "$(completed duration_ms) ms, pause $(completed pause_ms) ms"
for ((i = 0; i < most; i++)); do
  cmp "$tmp/sources/$i" "$tmp/destinations/$i"
done
