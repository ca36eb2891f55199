#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/policy.md against migrator/policy/: each constant there has a line that
# argues for its value, and if it gives the plain number, that is so; and each
# that is named there exists.

set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/policy.md
status=0

files=(migrator/policy/*.[ch])

wrong ()
{
  echo "$page: $*" >&2
  status=1
}

# NAME VALUE of each constant, but for what guards a header.
constants ()
{
  sed -nE 's/^ *# *define ([A-Z][A-Z0-9_]*)(\([^)]*\))? *(.*)/\1 \3/p' \
    "${files[@]}" | grep -vE '^NBDMIGRATE_[A-Z]*_H *$'
}

while read -r name value; do
  grep -qF "\`$name\`" "$page" || wrong "$name has no line"
  said=$(sed -nE "s/.*\`$name\` \(([0-9.]+)\).*/\1/p" "$page")
  [ -z "$said" ] || [ "$said" = "${value%% *}" ] || wrong "$name is $value now"
done < <(constants)

while read -r name; do
  grep -q "^$name " <<< "$(constants)" || wrong "there is no $name"
done < <(grep -oE "\`[A-Z][A-Z0-9_]+\`" "$page" | tr -d "\`" | sort -u)

exit $status
