#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# distcheck.sh TARBALL: what `make dist` has made is the same byte for byte from a clone
# elsewhere, and without git it builds without a warning, passes the unit tests and
# installs.

set -euo pipefail
tarball=$(realpath "$1")
name=$(basename "$tarball" .tar.gz)
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/var/tmp}/nbdmigrate-dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset MAKEFLAGS MAKELEVEL

fail ()
{
  echo "FAILED: $*" >&2
  exit 1
}

echo "-- from another clone"
git -c safe.directory='*' clone -q "$top" "$work/clone"
(umask 077 && TZ=Asia/Tokyo make -s -C "$work/clone" B="$work/clone/b" dist)
cmp "$work/clone/b/$name.tar.gz" "$tarball" || fail "it is another tarball there"

echo "-- out of the tarball"
tar -C "$work" -xf "$tarball"
cd "$work/$name"
make -s -j"$(nproc)" WERROR=1 > "$work/log" 2>&1 ||
  { cat "$work/log"; fail "it does not build"; }
make -s -j"$(nproc)" WERROR=1 check-units | tail -n 1
make -s install DESTDIR="$work/root" > "$work/log" 2>&1 ||
  { cat "$work/log"; fail "it cannot be installed"; }
"$work/root/usr/local/bin/nbdmigrate" --version
make -s check-version check-spdx
