#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# After a pivot the proxy, the destination or both are killed, or the proxy is
# stopped while the destination is away, again and again with writes under way, and
# started again (tests/campaign/).  What was flushed is there in the end; what was
# only acknowledged is, too, unless both were killed.
#
#   ROUNDS=N   (default 4); 200 take about a quarter of an hour

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
for part in disks late outrun campaign/parts campaign/migrator campaign/faults \
    campaign/relay campaign/verdict; do
  # shellcheck source=/dev/null
  source "$SRCDIR/tests/$part.sh"
done
requires nbdkit jq

# Most is used in what was sourced.
# shellcheck disable=SC2034
{
  rounds=${ROUNDS:-4}
  disks=1 sick=0 finish=pivot policy=off links=unix source_cache=file reconnect=30s
  guest=(--depth 16 --rate 8M --expect-disconnect --expect-shutdown)
  migrator=()
}
kinds=('relay destination kill' 'relay proxy kill' 'relay both kill' 'away proxy term')
RANDOM=$((seed % 32768))

truncate -s $((4 * 1024 * 1024 + 512)) "$tmp/source0.img" "$tmp/destination0.img"
start_the_proxy 0
start_destination 0
resume_guest
migrate_again
remember_sources
for ((round = 1; round <= rounds; round++)); do
  kind=${kinds[(seed + round) % 4]}
  ((round <= 4)) || kind=${kinds[RANDOM % 4]}
  some_are_late
  echo "round $round: $kind"
  read -r phase victim fault <<< "$kind"
  after_pivot "$phase" "$victim" "$fault"
done
verdict_pivot
end_bg destination0
