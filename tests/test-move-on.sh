#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The same proxy moves its disk on: after a pivot its destination is the source
# of the next migration.  One guest session goes on through three pivots, all
# that was acknowledged is on the last server, and the servers that were left
# see no client any more.
#
# timeout: 90

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((16 * 1024 * 1024))
truncate -s $size "$tmp/local"
start_proxy proxy file "$tmp/local"
for name in a b c; do
  truncate -s $size "$tmp/$name"
  start_nbdkit $name file "$tmp/$name"
done

fill "$(uri proxy)" 50
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 4M

# is_left NAME: a server without clients ends at once.
leave ()
{
  end_bg "$1"
}

echo "-- three pivots"
must_migrate "$(uri proxy)" "$(uri a)"
guest_goes_on guest
must_migrate "$(uri proxy)" "$(uri b)"
guest_goes_on guest
leave a
must_migrate "$(uri proxy)" "$(uri c)"
guest_goes_on guest
leave b
stop_guest guest
verify_final guest "$(uri c)"
verify_final guest "$(uri proxy)"
end_bg proxy
