#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What the filter was built for is asked of it by "nbdkit --dump-plugin": from
# 1.36 on nbdkit passes that to filters.  Before, the answer is the plugin's alone.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

# Without any parameter of the filter: nothing is served.
nbdkit --filter="$filter" memory --dump-plugin > "$tmp/dump"
grep -qx name=memory "$tmp/dump" || fail "the plugin says nothing"

if ! nbdkit_is_at_least 36; then
  ! grep '^migrate_' "$tmp/dump" || fail "this nbdkit asks filters, too?"
  exit 0
fi

said ()
{
  sed -n "s/^migrate_$1=//p" "$tmp/dump"
}

# is KEY VALUE
is ()
{
  [ "$(said "$1")" = "$2" ] || fail "$1 is '$(said "$1")', not '$2'"
}

is version "$("$nbdmigrate" --version | awk '{ print $2 }')"
is nbdkit "$(nbdkit --dump-config | sed -n 's/^version=//p')"
is libnbd "$(nbdinfo --version | sed -n 's/^libnbd //p')"
start_proxy proxy memory 1M
is control_protocol "$("$BUILD/tests/control" "$tmp/proxy.dir/control" \
                         < /dev/null | jq -r .nbdmigrate.protocol)"
for key in tls_hostname disconnect shared_names; do
  [[ $(said $key) =~ ^(yes|no)$ ]] || fail "$key is '$(said $key)'"
done
