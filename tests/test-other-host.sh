#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The URI of a proxy on another host, while a proxy on this host has a
# migrate-dir of the same path: whatever is asked for goes to neither, because
# the socket that is announced leads to another disk.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

other=$(uri other)

# refused TEXT COMMAND...: with the exit status of an error.
refused ()
{
  local text=$1

  shift
  expect_status 1 "$nbdmigrate" "$@" > "$tmp/said" 2>&1
  cat "$tmp/said"
  grep -qF -- "$text" "$tmp/said" || fail "this is not said: $text"
}

# The other one announces a path at which there is this host's socket.
start_nbdkit other --filter="$filter" memory 1M migrate-dir="$tmp/proxy.dir"
mv "$tmp/proxy.dir" "$tmp/other.dir"
start_proxy proxy memory 1M
start_nbdkit destination memory 1M
fill "$(uri proxy)" 50
start_migrate --wait "$(uri proxy)" "$(uri destination)"
wait_for is_ready

echo "-- a running migration is left alone"
status '{rate: .progress.rate, finish: .progress.finish}' > "$tmp/before"
for command in "set $other rate=1M" "finish $other handover" "finish $other" \
  "cancel $other" "reopen $other" "status $other"; do
  # shellcheck disable=SC2086 # several words
  refused "proxy's host" $command
  grep -qF "$tmp/proxy.dir/control on this host belongs to another disk" \
    "$tmp/said" || fail "it does not say what is wrong"
done
refused "proxy's host" --finish=detach "$other" "$(uri destination)"
status '{rate: .progress.rate, finish: .progress.finish}' > "$tmp/after"
cmp "$tmp/before" "$tmp/after"
must_have_status "$(uri proxy)" '.owner == "source" and .session and
                                 .progress.phase == "ready" and .wishes == {}'

echo "-- a disk that was handed over is not taken back"
"$nbdmigrate" finish --no-wait "$(uri proxy)" handover
wait_bg migrator || fail "nbdmigrate ended with exit status $?"
refused "proxy's host" reopen "$other"
must_have_status "$tmp/proxy.dir" '.owner == "fenced"'

echo "-- one that does not say which disk it is"
"$nbdmigrate" reopen "$tmp/proxy.dir"
# shellcheck disable=SC2016 # expanded by the plugin
start_nbdkit silent eval open='exit 0' get_size='echo 1M' \
  pread='head -c $3 /dev/zero' pwrite='exit 0' can_write='exit 0' \
  export_description="echo 'nbdmigrate: control=$tmp/proxy.dir/control'"
for command in finish cancel reopen status; do
  refused 'does not tell which disk' $command "$(uri silent)"
done
refused 'does not tell which disk' set "$(uri silent)" rate=1M
refused 'does not tell which disk' "$(uri silent)" "$(uri destination)"
"$nbdmigrate" status --control="$tmp/proxy.dir/control" "$(uri silent)" \
  > "$tmp/said" # the user's word
must_have_status "$tmp/proxy.dir" '.owner == "source" and .wishes == {}'
end_bg proxy
end_bg other
