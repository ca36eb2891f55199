#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Run the demonstration for real and put what it prints into README.md, between the
# lines "<!-- demo -->" and "<!-- /demo -->": its messages, of the progress bar some
# states, and its summary.
#
#   examples/record.sh [ARGUMENT OF demo.sh...]

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
record=$(mktemp)
trap 'rm -f "$record"' EXIT

echo "    \$ examples/demo.sh $*" > "$record"
# A progress line is drawn over the one before it: of each pass the last is kept, and
# one in the middle of a long one.
examples/demo.sh --no-install "$@" 2>&1 |
  sed -E 's|/[^ =]*/nbdmigrate-demo\.[A-Za-z0-9]+|/tmp/demo|g' | tr '\r' '\n' |
  sed -E 's/\x1b\[[0-9;]*[A-Za-z]//g; s/ +$//; /^$/d; /^demo: building/d' |
  awk '
    function pass (line) {
      return match (line, /^(bulk|pass [0-9]+|final|done) /) ? substr (line, 1, RLENGTH) : ""
    }
    function same (a, b) { return pass (a) != "" && pass (a) == pass (b) }
    { lines[++n] = $0 }
    END {
      for (i = 1; i <= n; i++) {
        for (j = i; j < n && same(lines[i], lines[j + 1]); j++) ;
        if (j - i > 4) print "    " lines[int ((i + j) / 2)]
        print "    " lines[j]
        i = j
      }
    }' >> "$record"
grep -q "^    Identical: " "$record" || {
  cat "$record" >&2
  exit 1
}
awk -v record="$record" '
  /^<!-- demo -->$/ {
    print "<!-- demo -->\n"
    while ((getline line < record) > 0) print line
    print ""
    skip = 1
  }
  /^<!-- \/demo -->$/ { skip = 0 }
  !skip' README.md > "$record.new"
cat "$record.new" > README.md
rm -f "$record.new"
