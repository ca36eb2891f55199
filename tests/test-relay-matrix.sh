#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# What becomes of a guest's requests after a pivot when the destination is slow,
# hangs, is cut off, comes back without its cache, or does old things late.  In
# every row a referee is the guest: nothing that it was told is done may be
# undone, and its reads never go back in time.  One line for each row and lane:
# what is expected, and what was seen.
#
#   LANES='one several zeroes'  one connection; several; several, and now and
#                   then a request to zero a gibibyte (default: one several)
#   ROWS='...'      by their names below (default: all that are short)
#   FULL=1          all rows and lanes, in real time: "10 min" are ten minutes.
#                   Otherwise the proxy's time runs faster (tests/preload/hurry.c)
#                   where nothing but waiting happens.
#
# The destination is nbdkit, which before 1.34 may end by an assertion of its own
# when its client is gone with answers on their way (raw_send_socket: one thread
# finds the socket closed that another one has just closed).  What is to be seen
# is then not there.  Such a row says so and is begun anew; a server that ends in
# any other way fails the test.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/between.sh
source "$SRCDIR/tests/between.sh"
requires nbdkit jq

hurried_rows=(30-seconds 10-minutes hangs dropped limit limit-crash)
rows=(1-second hangs-one crash empty cut closed kept-back late-queue
      proxy-killed away cable-short cable)
full_rows=(cable-long)

FULL=${FULL:-0} factor=240
[ "$FULL" -eq 0 ] || rows+=("${full_rows[@]}")
if [ "$FULL" -ne 0 ] || [ -n "${SANITIZER:-}" ]; then
  factor=1 # a sanitizer must be the first to be loaded
fi
if [ "$FULL" -ne 0 ] || [ -z "${SANITIZER:-}" ]; then
  rows=("${hurried_rows[@]}" "${rows[@]}")
fi
: "${ROWS:=${rows[*]}}"
if [ "$FULL" -ne 0 ]; then
  : "${LANES:=one several zeroes}"
else
  : "${LANES:=one several}"
fi

# Without root, or where namespaces are not allowed, there are no cables.
if [ -z "${LANE:-}" ] && ! { ip netns add nm$$ && ip netns del nm$$; } \
     > "$tmp/netns.log" 2>&1; then
  echo "no cables: $(cat "$tmp/netns.log")"
  ROWS=$(tr ' ' '\n' <<< "$ROWS" | grep -v cable | tr '\n' ' ')
fi

# ---- all lanes at once -----------------------------------------------------

if [ -z "${LANE:-}" ]; then
  for lane in $LANES; do
    start_bg "lane-$lane" env LANE="$lane" SEED="$seed" ROWS="$ROWS" \
      FULL="$FULL" "$0"
  done
  status=0
  for lane in $LANES; do
    WAIT_SECONDS=$((FULL * 20000 + 220)) wait_bg "lane-$lane" || status=$?
  done
  [ $status -eq 0 ] || fail "a lane failed"
  printf '| row | lane | expected | seen |\n| --- | --- | --- | --- |\n'
  for row in $ROWS; do
    grep -h "^| $row |" "$tmp"/lane-*.out || :
  done
  grep -h 'begun anew' "$tmp"/lane-*.out || :
  exit 0
fi

# ---- one lane: row after row, each in a process of its own -----------------

anew=75 # exit status of a row that has to be begun anew

if [ -z "${ROW:-}" ]; then
  for row in $ROWS; do
    for ((i = 0; i < 5; i++)); do
      status=0
      ROW=$row SEED=$seed "$0" || status=$?
      [ "$status" -eq $anew ] || break
      echo "row $row, lane $LANE, is begun anew: the destination's nbdkit ended" \
        "by its own assertion in raw_send_socket"
    done
    [ "$status" -eq 0 ] || fail "row $row, lane $LANE: exit status $status"
  done
  exit 0
fi

# ---- one row of it ---------------------------------------------------------

# In real time what is unknown after ten minutes of silence is waited for twice
# as long (R17).
[ "$FULL" -eq 0 ] || WAIT_SECONDS=1500

# Rows that take one of them away do so by crash_bg or end_bg.
must_live=(destination proxy)
at_end begin_anew_if_it_was_nbdkit
begin_anew_if_it_was_nbdkit ()
{
  [ "$status" -eq 0 ] ||
    ! grep -q 'raw_send_socket: Assertion' "$tmp/destination.log" ||
    status=$anew
}

case $LANE in
one) multi_conn=0 size=$((4 * 1024 * 1024 + 512)) kinds=rwWzZtf least=1 ;;
several) multi_conn=1 size=$((4 * 1024 * 1024 + 512)) kinds=rwWzZtf least=1 ;;
zeroes) multi_conn=1 size=$((1100 * 1024 * 1024)) kinds=rwWzZtfL least=1M ;;
*) fail "no such lane: $LANE" ;;
esac

# scaled MS: of the proxy's time, in ours.
scaled ()
{
  echo $((($1 + hurry - 1) / hurry))
}

start_destination ()
{
  "${at[@]}" start_late destination multi-conn=$multi_conn volatile=1
}

# begin FACTOR [between]: a disk that was pivoted to a destination, maybe with
# something between, and its guest at work.  "parameters" are the filter's,
# "guest" the referee's, "at" where the destination is.
parameters=(migrate-reconnect=24h) guest=() at=()
begin ()
{
  local to=destination preload=

  hurry=$1
  [ "$hurry" -eq 1 ] || preload=$BUILD/tests/hurry-preload.so
  rm -rf "$tmp/proxy.dir" "$tmp/guest.record" "$tmp"/*.img "$tmp/hurry"
  late_forget destination
  truncate -s "$size" "$tmp/source.img" "$tmp/destination.img"
  start_destination
  if [ "${2:-}" = between ]; then
    to=between
    start_between between "" "unix:$tmp/destination.sock"
  fi
  LD_PRELOAD=$preload HURRY=$hurry HURRY_ARM=$tmp/hurry \
    start_proxy proxy file "$tmp/source.img" "${parameters[@]}"
  must_migrate "$(uri proxy)" "$(uri $to)"
  touch "$tmp/hurry"
  start_guest guest "$(uri proxy)" --depth 16 --cells "${cells:-512}" \
    --kinds $kinds --rate 8M "${guest[@]}"
}

losses ()
{
  status .relay.losses
}

lost_times ()
{
  [ "$(losses)" -ge "$1" ]
}

is_up ()
{
  [ "$(status .relay.up)" = true ]
}

# finish ROW EXPECTED: the guest must go on and have seen nothing wrong; the
# destination holds what it wrote.  $errors, $waited_ms, $replayed, $lost.
finish ()
{
  guest_goes_on guest 100
  stop_guest guest
  errors=$(jq .errors "$tmp/guest.out")
  waited_ms=$(jq '.longest_write_ms | round' "$tmp/guest.out")
  replayed=$(status .relay.replayed_writes)
  lost=$(losses)
  end_bg proxy
  [ -z "${pids[between]:-}" ] || end_bg between
  verify_final guest "$(uri destination)"
  # One that has not heard of a client's end waits for it.
  if [ -n "${ghosts:-}" ]; then
    crash_bg destination
  else
    end_bg destination
  fi
  printf '| %s | %s | %s | %s |\n' "$1" "$LANE" "$2" "$(seen)"
}

seen ()
{
  local text="longest write ${waited_ms} ms"

  [ "$hurry" -eq 1 ] || text+=" (time $hurry times as fast)"
  [ "$errors" -eq 0 ] || text+=", $errors requests failed"
  if [ "$lost" -eq 0 ]; then
    text+=", never lost"
  else
    text+=", lost $lost times, $replayed writes sent again"
  fi
  echo "$text"
}

# Slow is not lost.
expect_patience ()
{
  [ "$lost" -eq 0 ] || fail "a slow server counts as lost"
  [ "$errors" -eq 0 ] || fail "requests failed that a slow server would answer"
}

expect_failures ()
{
  [ "$errors" -gt 0 ] || fail "no request failed"
}

expect_return ()
{
  [ "$lost" -ge 1 ] || fail "the loss was not noticed"
  [ "$errors" -eq 0 ] || fail "requests failed in spite of the return"
}

# ---- rows ------------------------------------------------------------------

# slow ROW SECONDS: some requests of each kind take so long.
slow ()
{
  local ms kind

  begin $factor
  ms=$(scaled $(($2 * 1000)))
  cue destination "write late ms=$ms count=2" "zero late ms=$ms count=1 least=$least" \
    "read late ms=$ms count=1" "flush late ms=$ms count=1"
  for kind in write zero read flush; do
    wait_for late_has destination " $kind .* came\$"
  done
  WAIT_SECONDS=$((60 + ms / 1000)) \
    wait_for late_has destination ' answered$' 5
  finish "$1" "waits, is not sent again"
  expect_patience
  ! late_has destination 'gave-up'
}

row_1_second ()
{
  slow 1-second 1
}

row_30_seconds ()
{
  slow 30-seconds 30
}

row_10_minutes ()
{
  slow 10-minutes 600
}

# All it is asked from some time on; it ends with a crash.
row_hangs ()
{
  begin $factor
  cue destination 'read,write,zero,trim,flush hang'
  wait_for late_has destination ' came$' 4
  # Longer than any limit of the relay's.
  sleep $(($(scaled 120000) / 1000 + 1))
  lost=$(losses)
  [ "$lost" -eq 0 ] || fail "a server that hangs counts as lost"
  crash_bg destination
  cue destination
  start_destination
  finish hangs "waits until the server is gone, then is sent again"
  expect_return
}

# One write only: the others go on.
row_hangs_one ()
{
  begin $factor
  cue destination 'write hang count=1'
  wait_for late_has destination ' write .* came$'
  guest_goes_on guest 20
  crash_bg destination
  cue destination
  start_destination
  finish hangs-one "the others go on; it is sent again after the crash"
  expect_return
}

# Twice, with what it had in its cache.
row_crash ()
{
  local i

  begin 1
  for i in 1 2; do
    crash_bg destination
    wait_for lost_times $i
    start_destination
    guest_goes_on guest 100
  done
  finish crash "waits; unflushed writes are sent again"
  expect_return
}

proxy_says ()
{
  grep -q -- "$1" "$tmp/proxy.log"
}

guest_has_flushed ()
{
  [ "$(status .guest.flushes)" -ge "$1" ]
}

# With another disk in its place, and only then with the right one.
row_empty ()
{
  # Enough of what was flushed must not have been written to again.
  local size=$((64 * 1024 * 1024)) cells=8192

  [ "$LANE" != zeroes ] || return 0 # they leave nothing of what was flushed
  begin 1
  guest_goes_on guest 100
  # So many that one of them began after those writes: hundreds of writes may
  # pass before the first flush is answered.
  wait_for guest_has_flushed $(($(status .guest.flushes) + 8))
  crash_bg destination
  wait_for lost_times 1
  mv "$tmp/destination.img" "$tmp/right.img"
  truncate -s "$size" "$tmp/destination.img"
  start_destination
  wait_for proxy_says 'does not hold what was flushed'
  [ "$(status .relay.up)" = false ] || fail "an empty disk is used"
  crash_bg destination
  # Nothing was sent there.
  cmp -n "$size" "$tmp/destination.img" /dev/zero ||
    fail "it was written to all the same"
  mv "$tmp/right.img" "$tmp/destination.img"
  start_destination
  finish empty "not used; waits until the right disk is there"
  expect_return
}

# by_a_proxy ROW COMMAND
by_a_proxy ()
{
  begin 1 between
  between between "$2"
  wait_for lost_times 1
  finish "$1" "waits, is sent again"
  expect_return
}

row_cut ()
{
  by_a_proxy cut cut
}

row_closed ()
{
  by_a_proxy closed close
}

# Silence, then the end: what was on its way is gone.
row_dropped ()
{
  begin $factor between
  between between drop
  wait_for between_says '- dropped'
  sleep $(($(scaled 120000) / 1000 + 1))
  [ "$(losses)" -eq 0 ] || fail "silence counts as a loss"
  between between pass
  finish dropped "waits as long as nothing is heard, then is sent again"
  expect_return
}

between_says ()
{
  grep -q -- "$1" "$tmp/between.out"
}

# What was on its way arrives when the next connection is at work.
row_kept_back ()
{
  begin 1 between
  between between stall
  wait_for between_says '- kept'
  # By the tool's clock: this script may be slower than the grace.
  between between pass-late=300
  between between cut
  wait_for lost_times 1
  wait_for between_says '- went on'
  finish kept-back "is sent again; what is newer waits for the grace"
  expect_return
}

# The server before took requests that it has neither done nor answered; what
# stands behind it does them when the next one serves.
row_late_queue ()
{
  begin 1
  cue destination 'write,zero queue count=6'
  wait_for late_has destination ' queued$'
  crash_bg destination
  cue destination
  wait_for lost_times 1
  go destination apply-reopened
  start_destination
  wait_for late_has destination ' applied$'
  finish late-queue "is sent again; what is newer waits for the grace"
  expect_return
}

# The proxy is killed with writes on their way; what it had sent is done when the
# next one serves, and the guest, which has connected again, writes on.
row_proxy_killed ()
{
  begin 1
  cue destination 'write hold until=reopened ms=300 count=4'
  wait_for late_has destination ' came$' 4
  crash_bg proxy
  wait_bg guest || :
  start_proxy proxy file "$tmp/source.img" migrate-reconnect=24h
  start_bg guest "$referee" run --uri "$(uri proxy)" \
    --log "$tmp/guest.record" --resume --depth 16 --kinds $kinds --rate 8M
  wait_for late_has destination ' landed$' 4
  finish proxy-killed "what was on its way lands before anything newer"
}

has_failed ()
{
  grep -q '^E' "$tmp/guest.record"
}

# The operator does not want guests to wait: what failed for them is done in the
# end, or not, but nothing changes after it was seen.
# Never less than a second of our time: the guest's last flush must not fail on a
# busy machine.
limit_s=$((factor > 20 ? factor : 20))

row_limit ()
{
  local -a parameters=(migrate-reconnect=24h "migrate-request-timeout=${limit_s}s")
  local -a guest=(--tolerate-errors)

  begin $factor
  cue destination 'write,zero hold until=now count=6'
  wait_for has_failed
  go destination now
  finish limit "fails for the guest, is answered later"
  [ "$lost" -eq 0 ] || fail "a slow server counts as lost"
  expect_failures
}

row_limit_crash ()
{
  local -a parameters=(migrate-reconnect=24h "migrate-request-timeout=${limit_s}s")
  local -a guest=(--tolerate-errors)

  begin $factor
  cue destination 'write,zero hang count=6'
  wait_for has_failed
  crash_bg destination
  cue destination
  wait_for lost_times 1
  start_destination
  wait_for is_up
  finish limit-crash "fails for the guest; the relay does it again"
  expect_failures
}

# It comes back only when requests have failed, and does the old ones then.
row_away ()
{
  local -a parameters=(migrate-reconnect=300ms) guest=(--tolerate-errors)

  begin 1
  cue destination 'write,zero queue count=6'
  wait_for late_has destination ' queued$'
  crash_bg destination
  wait_for has_failed
  cue destination
  go destination apply-reopened
  start_destination
  wait_for late_has destination ' applied$'
  finish away "fails; settled before anyone reads or writes there"
  expect_failures
}

# ---- cables, in real time --------------------------------------------------

begin_with_cables ()
{
  [ -n "${net:-}" ] || {
    # shellcheck source=tests/net.sh
    source "$SRCDIR/tests/net.sh"
    add_host here
    add_host there
  }
  local -a at=(at_port there 10809)

  in_host here begin 1
}

# Back before it counts as lost: what was sent is there.
row_cable_short ()
{
  begin_with_cables
  pull there
  sleep $((FULL ? 8 : 1))
  plug there
  in_host there finish cable-short "waits"
  expect_patience
}

# pulled ROW: until it is lost.
pulled ()
{
  local ghosts=1

  begin_with_cables
  pull there
  WAIT_SECONDS=100 wait_for lost_times 1
  guest_waits
  plug there
  wait_for is_up
  in_host there finish "$1" "waits; is sent again when the network is back"
  expect_return
}

# A new connection has no better chance.
guest_waits ()
{
  [ "$(status .relay.up)" = false ] || fail "it is up although the cable is not"
}

row_cable ()
{
  local -a parameters=(migrate-reconnect=24h migrate-network-timeout=1s)

  pulled cable
}

# As it is set by itself.
row_cable_long ()
{
  pulled cable-long
}

"row_${ROW//-/_}"
