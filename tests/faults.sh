# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# What the tests of the fault table's rows share.  Sourced after tests/functions.sh
# and tests/late.sh.
#
# The source is a file behind "proxy", the destination (tests/plugins/late.c, with a
# volatile cache) does what it is told, and a guest is at work.

# start_row BYTES GUEST-ARGUMENT...: all anew.
start_row ()
{
  local bytes=$1

  shift
  rm -rf "$tmp/proxy.dir" "$tmp/guest.record" "$tmp"/*.img
  truncate -s "$bytes" "$tmp/source.img" "$tmp/destination.img"
  start_proxy proxy "${below[@]}" file "$tmp/source.img" \
    migrate-max-gate=20s "${proxy_options[@]}"
  start_late destination volatile=1
  fill "$(uri proxy)" 80 > "$tmp/fill.out"
  start_guest guest "$(uri proxy)" --initial "$pattern" --rate 2M "$@"
}
below=() proxy_options=()

# wait_in_sync MIGRATOR-ARGUMENT...: it waits for "finish".
wait_in_sync ()
{
  start_migrate --wait "$@" "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
}

# in_pause ARGUMENT...: and now the gate is shut, and nbdmigrate stopped, until it gets
# SIGCONT: however busy the machine is, what is done until then is done in the pause.
# (The first hold is for the marks.)  The destination is slow, so that there is
# something left to be copied.
in_pause ()
{
  AT_COMMAND=hold AT_COUNT=2 AT_WHEN=after AT_SIGNAL=$(kill -l STOP) \
    LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/at-command-preload.so \
    start_migrate --wait --max-pause=8s "$@" "$(uri proxy)" "$(uri destination)"
  wait_for is_ready
  cue destination 'flush late ms=200' 'write late ms=50'
  "$nbdmigrate" finish --no-wait "$(uri proxy)"
  wait_for is_stopped migrator
  wait_for has_status "$(uri proxy)" '.gate == "closed"'
}

# failed_with TEXT: exit status 1, that is said, the last line says that the source
# is authoritative, it is, and the guest goes on there.
failed_with ()
{
  expect_status 1 wait_bg migrator
  grep -qF -- "$1" "$tmp/migrator.log" || fail "it does not say: $1"
  tail -n 1 "$tmp/migrator.log" | grep -q 'source .* authoritative' ||
    fail "the last line is: $(tail -n 1 "$tmp/migrator.log")"
  must_have_status "$(uri proxy)" '.owner == "source" and .gate == "open"'
  guest_goes_on guest
}

# works_again: the fault is gone, and what is copied is right.
works_again ()
{
  cue destination
  must_migrate --finish=detach --max-pause=4s "$(uri proxy)" "$(uri destination)"
  verify_cut guest "$(uri destination)" > "$tmp/verdict"
  guest_goes_on guest
}

# is_at_destination: the guest is judged, there, and nothing is left.
is_at_destination ()
{
  must_have_status "$(uri proxy)" '.owner == "destination"'
  guest_goes_on guest
  stop_guest guest > "$tmp/guest.report"
  verify_final guest "$(uri proxy)" > "$tmp/verdict"
  end_bg proxy
  verify_final guest "$(uri destination)" > "$tmp/verdict"
  end_bg destination
}
