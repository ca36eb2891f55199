#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# check-version.sh VERSION: the packages and the news are of this version, and the spec
# file and debian/control agree on what is needed.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$1
status=0

wrong ()
{
  echo "$*" >&2
  status=1
}

# says FILE WHAT: of the first line that has it.
says ()
{
  [ "$2" = "$version" ] || wrong "$1 is of version $2, and make of $version"
}

says NEWS.md "$(sed -nE '/^## /{s/^## ([^ ]+).*/\1/p;q}' NEWS.md)"
says debian/changelog "$(sed -nE '1s/.*\(([^-]+)-.*/\1/p' debian/changelog)"
says packaging/nbdmigrate.spec \
     "$(sed -n 's/^Version: *//p' packaging/nbdmigrate.spec)"

# What nbdkit and libnbd must be at least, in both and in the README.
for library in nbdkit libnbd; do
  least=$(sed -nE "s/^ $library(-plugin)?-dev \(>= ([0-9.]+)\).*/\2/p" debian/control)
  grep -qE "^BuildRequires: +$library-devel >= $least$" packaging/nbdmigrate.spec ||
    wrong "debian/control and the spec file do not want the same $library"
  grep -q "$library ($least or later)" <(tr '\n' ' ' < README.md) ||
    wrong "README.md wants another $library than $least"
done

exit $status
