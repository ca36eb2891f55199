#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Every file of the project names its license in the first three lines; but what is
# given to the fuzzers byte for byte, and files of a form that has no comments.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Files that git knows or would add; without git, all but what was built.
files ()
{
  git ls-files --cached --others --exclude-standard 2> /dev/null ||
    find -- * .ci -path build -prune -o -type f -print
}

status=0
while read -r file; do
  [ -s "$file" ] || continue
  [ "$file" != LICENSE ] || continue
  [[ $file != tests/fuzz/corpus/* ]] || continue
  case $file in debian/changelog | debian/source/format) continue ;; esac
  head -n 3 "$file" | grep -q 'SPDX-License-Identifier: BSD-3-Clause' || {
    echo "$file: no SPDX line" >&2
    status=1
  }
done < <(files)
exit $status
