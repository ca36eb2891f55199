#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The manuals tell the truth, in both directions: options, commands and exit
# statuses of `nbdmigrate --help`, parameters in the filter's help, members of
# JSON events and of the filter's status, commands and error classes of the
# control protocol.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

status=0

# The part of a page under a heading: section PAGE HEADING
section ()
{
  awk -v want="$2" '
    /^=head[12] / { on = $0 == "=head1 " want || $0 == "=head2 " want; next }
    on { print }
  ' "$SRCDIR/docs/$1.pod"
}

# The items in a list: items PAGE HEADING B|C, those in bold or in code, without
# what follows "=" or a blank in them.
items ()
{
  section "$1" "$2" | grep '^=item' | grep -oE "$3<[^>]+>" |
    sed -E 's/^.<//; s/[= >].*//; s/>$//' || :
}

# same WHAT NAME1 NAME2: the words on fd 3 and fd 4 must be the same.
same ()
{
  local what=$1 name1=$2 name2=$3 word

  sort -u <&3 > "$tmp/1"
  sort -u <&4 > "$tmp/2"
  [ -s "$tmp/1" ] || fail "$what: nothing found in $name1"
  [ -s "$tmp/2" ] || fail "$what: nothing found in $name2"
  while read -r word; do
    echo "$what $word is in $name1 but not in $name2"
    status=1
  done < <(comm -23 "$tmp/1" "$tmp/2")
  while read -r word; do
    echo "$what $word is in $name2 but not in $name1"
    status=1
  done < <(comm -13 "$tmp/1" "$tmp/2")
}

# ---- the command line ------------------------------------------------------

"$nbdmigrate" --help > "$tmp/help"

same "option" "--help" "nbdmigrate(1)" \
     3< <(sed -nE 's/^ +(-[a-zA-Z], )?(--[a-z-]+).*/\2/p' "$tmp/help") \
     4< <(items nbdmigrate OPTIONS B | grep -- '^--')

same "command" "--help" "nbdmigrate(1)" \
     3< <(sed -nE 's/^(Usage:)? +nbdmigrate ([a-z]+) .*/\2/p' "$tmp/help") \
     4< <(section nbdmigrate COMMANDS | sed -nE 's/^=item B<([a-z]+)>.*/\1/p')

# What follows the command, up to the disk that it is about.
usage='s/^(Usage:)? +nbdmigrate ([a-z]+ .*SOURCE[^ ]*).*/\2/p'
same "usage" "--help" "nbdmigrate(1)" \
     3< <(sed -nE "$usage" "$tmp/help") \
     4< <(section nbdmigrate SYNOPSIS | sed -nE "$usage")

same "key of set" "--help" "nbdmigrate(1)" \
     3< <(sed -nE 's/^Keys of set: ([^.]*)\..*/\1/p' "$tmp/help" |
            grep -oE '[a-z-]+') \
     4< <(section nbdmigrate COMMANDS | grep '^=item B<set>' |
            grep -oE '[a-z-]+=' | tr -d =)

same "exit status" "--help" "nbdmigrate(1)" \
     3< <(sed -n '/^Exit status/,$p' "$tmp/help" | grep -oE '\b[0-9] ' |
            tr -d ' ') \
     4< <(section nbdmigrate "EXIT STATUS" | sed -nE 's/^=item Z<>//p')

# The program says itself which modes it knows.
expect_status 2 "$nbdmigrate" --finish=nonsense nbd://a nbd://b 2> "$tmp/modes"
same "--finish=" "nbdmigrate" "nbdmigrate(1)" \
     3< <(sed -nE '1s/.*must be ([^;.]*).*/\1/p' "$tmp/modes" | grep -oE '[a-z]+' |
            grep -vx or) \
     4< <(section nbdmigrate OPTIONS |
            sed -nE 's/^=item B<--finish=([a-z]+)>/\1/p')

# ---- the filter ------------------------------------------------------------

nbdkit --filter="$filter" null --help > "$tmp/filter-help"
same "parameter" "the filter's help" "nbdkit-migrate-filter(1)" \
     3< <(grep -oE -- '\bmigrate-[a-z-]+=' "$tmp/filter-help" | tr -d =) \
     4< <(items nbdkit-migrate-filter PARAMETERS B)

# ---- JSON ------------------------------------------------------------------

start_proxy source memory 1M
start_nbdkit destination memory 1M
start_nbdkit broken --filter=error memory 1M error-pwrite=EIO \
             error-zero=EIO error-rate=100%
expect_status 1 migrate --finish=detach "$(uri source)" "$(uri broken)"
cat "$tmp/events" > "$tmp/all-events"
must_migrate --finish=detach --digest --hook=/bin/true "$(uri source)" "$(uri destination)"
cat "$tmp/events" >> "$tmp/all-events"
must_migrate --check "$(uri source)" "$(uri destination)"
cat "$tmp/events" >> "$tmp/all-events"
start_nbdkit lost memory 1M
start_migrate --wait --finish=detach "$(uri source)" "$(uri lost)"
wait_for has_event policy
crash_bg lost
wait_for grep -q '"reconnecting":{' "$tmp/events"
start_nbdkit lost memory 1M
wait_for has_event reconnected
"$nbdmigrate" pause "$(uri source)"
wait_for has_event paused
"$nbdmigrate" resume "$(uri source)"
wait_for has_event resumed
kill_bg migrator TERM
expect_status 3 wait_bg migrator
cat "$tmp/migrator.out" >> "$tmp/all-events"
must_migrate --finish=pivot "$(uri source)" "$(uri destination)"
"$nbdmigrate" status --json "$(uri source)" > "$tmp/status"
# nbdkit waits for its clients, and the proxy is one of the destination now.
end_bg source

# An end without convergence is not brought about here, nor one in doubt.
same "event" "a run" "nbdmigrate(1)" \
     3< <(jq -r .event "$tmp/all-events"; echo policy) \
     4< <(items nbdmigrate "JSON EVENTS" B)
same "JSON member" "a run" "nbdmigrate(1)" \
     3< <(jq -r '.. | objects | keys[]' "$tmp/all-events"
          # An older libnbd does not count the last.
          printf '%s\n' decision reason owner \
            {source,destination}_{sent,received}_bytes) \
     4< <(items nbdmigrate "JSON EVENTS" C)

same "member of the status" "a run" "nbdmigrate-control(7)" \
     3< <(jq -r 'keys[]' "$tmp/status") \
     4< <(items nbdmigrate-control "Finding out" C |
            grep -vxE 'max_gate_ms|place_id|settle_ms')
for member in $(jq -r '.guest, .relay | keys[]' "$tmp/status"); do
  # All of it is read: what writes into a closed pipe fails.
  section nbdmigrate-control "Finding out" | grep "C<$member>" > /dev/null || {
    echo "$member is not in nbdmigrate-control(7)"
    status=1
  }
done

# ---- the protocol ----------------------------------------------------------

same "command" "commands.c" "nbdmigrate-control(7)" \
     3< <(sed -nE 's/^ *\{ "([a-z-]+)", command_.*/\1/p' \
              "$SRCDIR/nbdkit-plugin/control/commands.c") \
     4< <(for part in "Finding out" "Moving the disk" \
                      "Pausing and cutting over" "From outside"; do
            items nbdmigrate-control "$part" B
          done)

same "error class" "the filter" "nbdmigrate-control(7)" \
     3< <(cat "$SRCDIR"/nbdkit-plugin/*/*.c | tr -s '\n ' ' ' |
            grep -oE '(call_fail \( ?call|complain \(c|protocol_error \(), ?"[A-Z][A-Za-z]+"|protocol_error \("[A-Z][A-Za-z]+"' |
            grep -oE '"[A-Za-z]+"' | tr -d '"') \
     4< <(items nbdmigrate-control ERRORS B)

exit $status
