#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# calls-fail-run.sh SCENARIO: one run of it, in which one call fails, or none, or
# all from one on (tests/calls-fail.sh; the variables are those of
# tests/preload/calls-fail.c).
#
# Whatever fails: nobody crashes or hangs; what the guest was told is done is
# there, at the side that the last line of nbdmigrate names, and its exit status
# is right; and once more, without a failure, everything works.  A guest that is
# connected goes on also while a disk is full or broken that is not its own.
#
#   CALLS_OUT=DIR  gets what was said: said, calls (CALLS_LOG), and how many have
#                  failed: failures

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-$(dirname "$0")/..}/tests/functions.sh"

EIO=5 ENOSPC=28
size=$((512 * 1024 + 512))
out=${CALLS_OUT:?where to}
P=$(uri proxy) D=$(uri destination) T=$(uri there)
guest_options=()
steer=: # what is done while nbdmigrate is at work
cancelled= # its exit status if that is a cancel

state=$((16384 * 8)) # where that is in the table
truncate -s $((state + 8)) "$tmp/table"
at_end "od -A n -t u4 -j $((state + 4)) $tmp/table > $out/failures"
: > "$out/calls"
: > "$out/said"
export CALLS_TABLE=$tmp/table CALLS_LOG=$out/calls

# Run something that is looked at.
looked_at=(env LD_PRELOAD="$BUILD/tests/calls-fail-preload.so")

# What processes said would be gone when others begin under the same name.
keep_said ()
{
  cat "$tmp/$1.log" >> "$out/said"
}

has_failed ()
{
  grep -q '^fail' "$out/calls"
}

# over [for-good]: what lasts is over, from now on everything has to work; or, for
# good, what has not begun yet never lasts.
over ()
{
  [ -z "${CALLS_LASTING:-}" ] || { [ $# -eq 0 ] && ! has_failed; } ||
    printf '\2' | dd of="$tmp/table" bs=1 seek=$state conv=notrunc status=none
}

# A failure is no reason for a signal, nor for an exit status that is none.
ended_well ()
{
  case $2 in
  0) ;;
  "$cancelled") ;;
  [1-5]) has_failed || fail "$1: exit status $2, and no call had failed" ;;
  *) fail "$1 ended with exit status $2" ;;
  esac
}

# ---- the proxy and the servers ---------------------------------------------

# What was sent to it and not flushed it loses when it is killed.
serve ()
{
  [ -e "$tmp/$1" ] || truncate -s $size "$tmp/$1"
  start_nbdkit "$1" "$BUILD/tests/nbdkit-lossy-plugin.so" file="$tmp/$1"
}

proxy_is_up_or_gone ()
{
  [ -s "$tmp/proxy.pid" ] || has_ended "${pids[proxy]}"
}

proxy_serves ()
{
  nbdinfo --size "$P" > "$tmp/size" 2>> "$out/said"
}

# launch: a proxy of which a call may fail; false if it has ended, or a client
# was refused.
launch ()
{
  rm -f "$tmp/proxy.pid" "$tmp/proxy.sock"
  start_bg proxy "${looked_at[@]}" nbdkit -f -U "$tmp/proxy.sock" \
    -P "$tmp/proxy.pid" --filter="$filter" file "$tmp/source" \
    migrate-dir="$tmp/proxy.dir" migrate-chunk=32K
  wait_for proxy_is_up_or_gone
  [ -s "$tmp/proxy.pid" ] && proxy_serves
}

# start_it: if it cannot start, or refuses a client, or does not know the owner, it
# does the next time.
start_it ()
{
  local status=0

  if launch; then
    has_failed && [ "$(place)" = unknown ] || return 0
    stop_it
    over
    if ! launch || [ "$(place)" = unknown ]; then
      fail "nor does it start again"
    fi
    return
  fi
  has_failed || fail "the proxy does not start"
  over
  if is_child "${pids[proxy]}" && proxy_serves; then
    return
  fi
  wait_bg proxy || status=$?
  keep_said proxy
  ended_well proxy $status
  launch || fail "the proxy does not start again"
}

stop_it ()
{
  end_bg proxy || fail "the proxy did not end well"
  keep_said proxy
}

# ---- the guest --------------------------------------------------------------

guest_is_at_work ()
{
  local n

  # Without memory, descriptors or threads its requests may fail, or wait.
  [[ ${CALLS_LASTING:-} = @($EIO|$ENOSPC) ]] || over
  n=$(grep -c '^A' "$tmp/guest.record" 2> /dev/null) || :
  ((${n:-0} >= acked + 30)) || has_ended "${pids[guest]}"
}

# guest_starts [again]: its connection may be refused, once.
guest_starts ()
{
  local status=0

  acked=$(grep -c '^A' "$tmp/guest.record" 2> /dev/null) || :
  acked=${acked:-0}
  start_bg guest "$referee" run --uri "$P" --log "$tmp/guest.record" \
    --seed "$seed" --rate 4M --depth 4 --cells 128 --tolerate-errors \
    "${guest_options[@]}"
  wait_for guest_is_at_work
  is_child "${pids[guest]}" || {
    wait_bg guest || status=$?
    keep_said guest
    [ $# -eq 0 ] || fail "the guest cannot work: exit status $status"
    has_failed || fail "the guest ended, and no call had failed"
    over
    [ ! -e "$tmp/guest.record" ] || guest_options+=(--resume)
    guest_starts again
    return
  }
}

guest_works_on ()
{
  acked=$(grep -c '^A' "$tmp/guest.record")
  wait_for guest_is_at_work
  is_child "${pids[guest]}" || fail "the guest has ended: $(tail -n 3 "$tmp/guest.log")"
}

guest_stops ()
{
  local status=0

  kill_bg guest TERM || fail "the guest had ended"
  wait_bg guest || status=$?
  keep_said guest
  # Its last flush may be told of an error; nothing is lost by that.
  [ $status -eq 0 ] || { has_failed && grep -q nbd_flush "$tmp/guest.log"; } ||
    fail "the guest ended with exit status $status"
  guest_options=(--resume)
}

# ---- migrations -------------------------------------------------------------

# ask_twice COMMAND...: one of the looked at has to answer, so it may fail once.
# Not needed when the migrator has ended meanwhile.
ask_twice ()
{
  local try

  for try in 1 2; do
    [ $try -eq 1 ] || over
    "$@" 2>> "$out/said" && return
    [ -z "${pids[migrator]:-}" ] || ! has_ended "${pids[migrator]}" || return 0
    has_failed || break
  done
  fail "$*, try $try: $(tail -n 2 "$out/said")"
}

# place: where the disk is, "local" or a URI, or "fenced" or "unknown".
place ()
{
  ask_twice ask_status
  jq -r 'if .owner == "fenced" or .owner == "unknown" then .owner
         else .place // "local" end' "$tmp/status"
}

ask_status ()
{
  "$nbdmigrate" status --json "$tmp/proxy.dir" > "$tmp/status"
}

# says_place PLACE: in the last line.
says_place ()
{
  local last

  last=$(tail -n 1 "$tmp/migrator.log")
  case $last in
  *'is not authoritative: see'*) [ "$1" = unknown ] ;;
  *'nothing was done'* | *'the source '*' authoritative'*) [ "$1" = "$before" ] ;;
  *'the destination '*'is authoritative'*'fenced off'*) [ "$1" = fenced ] ;;
  *'the destination '*'is authoritative'*) [ "$1" = "$goal" ] ;;
  *'is not known'*) return 0 ;;
  *) return 1 ;;
  esac
}

# Its exit status, or 0 if it was cancelled as it should be.
moves_once ()
{
  local status=0 after goal=$goal

  start_bg migrator "${looked_at[@]}" "$nbdmigrate" --json \
    --max-pause=4s "$@"
  ln -sf migrator.out "$tmp/events"
  $steer
  wait_bg migrator || status=$?
  keep_said migrator
  ended_well nbdmigrate $status
  [ "$status" != "$cancelled" ] || status=0 goal=$before
  case $status in
  0 | 1 | 5) ;;
  *) fail "nbdmigrate: exit status $status" ;;
  esac
  after=$(place)
  says_place "$after" || fail "the disk is at $after, and the last line is:" \
    "$(tail -n 1 "$tmp/migrator.log")"
  [ $status -ne 0 ] || [ "$after" = "$goal" ] ||
    fail "exit status 0, and the disk is at $after"
  [ $status -ne 1 ] || [ "$after" = "$before" ] || [ "$after" = unknown ] ||
    fail "exit status 1, and the disk is at $after"
  return $status
}

# moves PLACE OPTION...: so that the disk is there; and again if it fails.
moves ()
{
  local status=0

  goal=$1 before=$(place)
  shift
  moves_once "$@" || status=$?
  [ $status -ne 0 ] || return 0
  over
  if [ "$(place)" = unknown ]; then
    "$nbdmigrate" reopen "$tmp/proxy.dir" owner=source ||
      fail "reopen: exit status $?"
  fi
  [ $status -ne 5 ] || [ "$(place)" != "$goal" ] || return 0
  moves_once "$@" || fail "it fails again: $(cat "$tmp/migrator.log")"
}

# ---- scenarios --------------------------------------------------------------

# check_all: started again, with nothing that fails, everything is there.
check_all ()
{
  start_proxy proxy file "$tmp/source"
  verify_final guest "$P" > "$tmp/verdict"
  stop_it
}

# The disk moves while a guest writes, which goes on there.
scenario_pivot ()
{
  serve destination
  start_it
  guest_starts
  moves "$D" "$P" "$D"
  guest_works_on
  guest_stops
  stop_it
  crash_bg destination
  serve destination
  check_all
}

# A copy, and after a restart what changed since.
scenario_detach ()
{
  serve destination
  start_it
  guest_starts
  moves local --finish=detach "$P" "$D"
  guest_works_on
  guest_stops
  stop_it
  start_it
  guest_starts
  guest_stops
  moves local --finish=detach --incremental "$P" "$D"
  verify_final guest "$D" > "$tmp/verdict"
  stop_it
  check_all
}

# The guest is fenced off, then let back.
scenario_handover ()
{
  serve destination
  start_it
  guest_options=(--expect-shutdown)
  guest_starts
  moves fenced --finish=handover "$P" "$D"
  wait_bg guest || fail "the guest ended with exit status $?"
  guest_options=(--resume)
  verify_final guest "$D" > "$tmp/verdict"
  ask_twice "${looked_at[@]}" "$nbdmigrate" reopen "$P"
  [ "$(place)" = local ] || fail "it is not open again"
  guest_starts
  guest_stops
  stop_it
  check_all
}

# Guests' writes go to both sides; the migrator is the test.
scenario_mirror ()
{
  serve destination
  start_it
  guest_starts
  mirror_for_a_while || {
    leave_talk
    has_failed || fail "no mirror: $answer"
    over
    mirror_for_a_while || fail "no mirror again: $answer"
  }
  leave_talk
  moves "$D" "$P" "$D"
  guest_works_on
  guest_stops
  stop_it
  check_all
}

# say COMMAND [ARGUMENTS]: false if the answer is not a good one, or there is none.
# The subshell is there for SIGPIPE, when the proxy has closed the connection.
say ()
{
  answer="none to $1"
  (echo "{\"execute\": \"$1\", \"arguments\": ${2:-{\}}}" >&"$talk_to") || return
  read -r -t 30 answer <&"$talk_from" || return
  echo "$answer" >> "$out/said"
  [[ $answer == '{"return"'* ]]
}

open_talk ()
{
  rm -f "$tmp/talker.in" "$tmp/talker.answers"
  mkfifo "$tmp/talker.in" "$tmp/talker.answers"
  "$BUILD/tests/control" "$tmp/proxy.dir/control" < "$tmp/talker.in" \
    > "$tmp/talker.answers" 2>> "$out/said" &
  pids[talker]=$!
  exec {talk_to}> "$tmp/talker.in" {talk_from}< "$tmp/talker.answers"
  answer='no greeting'
  read -r -t 30 answer <&"$talk_from"
}

leave_talk ()
{
  crash_bg talker
  exec {talk_to}>&- {talk_from}<&-
}

# Of which nobody was told, if anybody can be asked.
no_lease_is_left ()
{
  say status || return 0
  [ "$(answered .return.leased_bytes)" = 0 ] || fail "what is leased is not told"
}

# copies COMMAND ARGUMENTS ANSWER MEMBER: what COMMAND leases is copied, and that is
# told by ANSWER.
copies ()
{
  local lease

  say "$1" "{\"cursor\": 0, \"max_bytes\": 1073741824$2}" || {
    no_lease_is_left
    return 1
  }
  lease=$answer
  "$BUILD/tests/copy-extents" "$P" "$D" <<< "$lease" 2>> "$out/said" || return
  say "$3" "{$4, \"extents\": $(jq -c \
    '.return.extents | map([.[0], .[1]])' <<< "$lease")}"
}

copy_leased ()
{
  copies take '' "done" "\"epoch\": $epoch"
}

# What a session before had under lease is not mirrored until it was found equal
# (R17); having been copied it is.
copy_quarantined ()
{
  [ "$(answered .return.quarantined_bytes)" = 0 ] ||
    copies compare ', "quarantined": true' compared '"equal": true'
}

# Whatever a write made dirty has to be copied again before it is mirrored.  Or it
# has ended, and status says why.
mirrors ()
{
  copy_leased && say status && copy_quarantined && say status || return 0
  [ "$(answered '.return.mirror | .writes > 20 or .state == "off"')" = true ]
}

mirror_for_a_while ()
{
  open_talk || return
  say attach || return
  say begin "{\"destination\": \"$D\"}" || return
  epoch=$(answered .return.epoch)
  copy_leased || return
  say mirror '{"enabled": true, "max_ms": 5000}' || return
  wait_for mirrors
  [ "$(answered .return.mirror.state)" = on ] || return
  say flush-begin || return
  say flush-end "{\"success\": true, \"epoch\": $epoch}" || return
  say mirror '{"enabled": false}'
}

# At a destination that crashes, is left again or not, and is away when the proxy
# stops.
scenario_again ()
{
  serve destination
  serve there
  start_it
  moves "$D" "$P" "$D"
  guest_options=(--expect-disconnect)
  guest_starts
  crash_bg destination
  serve destination
  guest_works_on
  steer=steer_cancel cancelled=3
  moves "$T" --wait "$P" "$T"
  steer=: cancelled=
  moves "$T" "$P" "$T"
  guest_works_on
  end_bg destination
  crash_bg there
  stop_it
  wait_bg guest || fail "the guest ended with exit status $?"
  guest_options+=(--resume)
  ! grep -q 'could not be kept' "$out/said" || guest_options+=(--lost-cache)
  serve there
  start_it
  over for-good # nobody is served before the kept writes can be removed
  guest_starts
  guest_works_on
  guest_stops
  stop_it
  crash_bg there
  serve there
  check_all
}

is_ready_or_ended ()
{
  has_ended "${pids[migrator]}" || grep -q '"phase": *"ready"' "$tmp/events"
}

steer_cancel ()
{
  wait_for is_ready_or_ended
  has_ended "${pids[migrator]}" ||
    ask_twice "${looked_at[@]}" "$nbdmigrate" cancel "$tmp/proxy.dir"
}

truncate -s $size "$tmp/source"
"scenario_$1"
! grep -l "Assertion\|Sanitizer" "$tmp"/*.log "$out/said" || fail "an assertion"
