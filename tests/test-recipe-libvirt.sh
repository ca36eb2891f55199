#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/libvirt/domain.xml is what libvirt's schema takes, and names the socket of a
# proxy as docs/recipes.md does.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires virt-xml-validate xmllint

xml=$SRCDIR/examples/libvirt/domain.xml
schema=/usr/share/libvirt/schemas/domaincommon.rng
cp "$xml" "$tmp/domain.xml"

# Of libvirt 9.0 the schema has no such delay for NBD.
if ! sed -n '/name="diskSourceNetworkProtocolNBD"/,/<\/define>/p' "$schema" |
    grep reconnect > /dev/null; then
  echo "this libvirt knows no reconnect delay: tried without it"
  sed -i '/<reconnect delay/d' "$tmp/domain.xml"
fi
virt-xml-validate "$tmp/domain.xml" domain

socket=$(xmllint --xpath 'string(//disk/source[@protocol="nbd"]/host/@socket)' "$xml")
grep -q "nbdkit -U $socket --filter=migrate" "$SRCDIR/docs/recipes.md" ||
  fail "docs/recipes.md has another socket than $socket"

echo "-- it is looked at"
sed -i 's/protocol="nbd"/protocol="nonsense"/' "$tmp/domain.xml"
if virt-xml-validate "$tmp/domain.xml" domain 2> "$tmp/validate.log"; then
  fail "nonsense passes"
fi
