# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# A session in which guests' writes go to both sides, driven step by step: the
# test is the migrator.  The destination is slow, hangs or fails on cue.  Sourced
# after tests/functions.sh and tests/late.sh.
# shellcheck disable=SC2034

chunk=65536
proxy_options=() # more of them

# start_mirror BYTES [ARGUMENT...]: proxy, destination (with these arguments) and
# session; everything is copied.  If they are there, they go on.
start_mirror ()
{
  local bytes=$1

  shift
  if [ -n "${pids[proxy]:-}" ]; then
    rm -f "$tmp"/destination.cue/{first,copied,rules}
    : > "$tmp/destination.cue/log"
    mirror_off
    settle
    return
  fi
  rm -rf "$tmp/proxy.dir" "$tmp/destination.cue" "$tmp/guest.record"
  truncate -s 0 "$tmp/destination.img"
  truncate -s "$bytes" "$tmp/destination.img"
  start_proxy proxy memory "$bytes" migrate-chunk=$chunk \
    migrate-max-gate="${max_gate:-60s}" "${proxy_options[@]}"
  start_late destination "$@"
  # Somebody has to open the export first.
  nbdinfo --size "$(uri proxy)" > "$tmp/size.out"
  begin_session
  copy_all
}

begin_session ()
{
  start_talker proxy
  talk attach
  talk begin "{\"destination\": \"$(uri destination)\"}"
  epoch=$(answered .return.epoch)
}

stop_mirror ()
{
  talk end
  leave_session
  end_bg proxy
  end_bg destination
}

# Whatever was started since has the talker's input open, too, so it sees no end
# of it.
leave_session ()
{
  crash_bg talker
  stop_talker
}

# mirror_on [MAX_MS]: and it is on.
mirror_on ()
{
  talk mirror "{\"enabled\": true, \"max_ms\": ${1:-60000}}"
  wait_for mirror_is on
}

# goes_on_beside N: N more requests of the guest are answered.  The session must not be
# silent for ten seconds meanwhile.
goes_on_beside ()
{
  local n

  n=$(grep -c '^A' "$tmp/guest.record") || :
  wait_for has_acked_beside $((n + $1))
}

has_acked_beside ()
{
  talk status
  guest_has_acked guest "$1"
}

mirror_off ()
{
  talk mirror '{"enabled": false}'
}

mirror_is ()
{
  [ "$(tracked .mirror.state)" = "$1" ]
}

# tracked EXPRESSION: jq over the status.
tracked ()
{
  talk status
  answered ".return | $1"
}

# The status is in $answer.
is_tracked ()
{
  talk status
  [ "$(answered ".return | $1")" = true ]
}

must_be_tracked ()
{
  is_tracked "$1" || fail "not so: $1 in $answer"
}

# done_with ANSWER: the ranges of a lease have been copied.
done_with ()
{
  talk "done" "{\"epoch\": $epoch, \"extents\": $(jq -c \
    '.return.extents | map([.[0], .[1]])' <<< "$1")}"
}

# copy_from CURSOR BYTES: what is dirty from there on; the next cursor is in $cursor.
copy_from ()
{
  local lease

  talk take "{\"cursor\": $1, \"max_bytes\": $2}"
  lease=$answer
  cursor=$(answered .return.cursor)
  "$BUILD/tests/copy-extents" "$(uri proxy)" "$(uri destination)" <<< "$lease"
  done_with "$lease"
}

copy_all ()
{
  copy_from 0 $((1 << 40))
  flush_all
}

# The migrator's connections are flushed by copy-extents.
flush_all ()
{
  talk flush-begin
  talk flush-end "{\"success\": true, \"epoch\": $epoch}"
}

# write_to PROXY-OFFSET BYTE [LENGTH]: as a guest, and the answer is a good one.
write_to ()
{
  qemu-io -f raw -c "write -P $2 $1 ${3:-4096}" "$(uri proxy)" > "$tmp/io.out" ||
    fail "a guest's write failed: $(cat "$tmp/io.out")"
}

# The same, in the background under a name.
start_write ()
{
  start_bg "$1" qemu-io -f raw -c "write -P $3 $2 ${4:-4096}" "$(uri proxy)"
}

# Everything that is dirty is copied, as the migrator would before it commits.
settle ()
{
  copy_all
  [ "$(tracked .remaining_bytes)" -eq 0 ] || fail "not all was copied: $answer"
}

sides_are_equal ()
{
  local a b

  a=$(nbdcopy "$(uri proxy)" - | sha256sum)
  b=$(sha256sum < "$tmp/destination.img")
  [ "$a" = "$b" ]
}

# ---- what a broken rule would break -----------------------------------------

# Each leaves both sides as they are when the migrator takes them to be equal.

# A write that was under way when its chunk was leased lands after the copy.
mirror_no_conflict ()
{
  start_mirror $((4 * chunk))
  mirror_on
  cue destination 'write hold until=first at=0 count=1'
  start_write first 0 17
  wait_for late_has destination ' write 0 .* came'
  write_to 0 34
  copy_from 0 $chunk
  go destination first
  wait_bg first
  settle
}

# A chunk that lacks something else counts as clean after one mirrored write.
mirror_into_dirty ()
{
  start_mirror $((4 * chunk))
  write_to 4096 51
  mirror_on
  write_to 8192 68
  settle
}

# The migrator has read the chunk, and writes it after the guest has.
mirror_into_leased ()
{
  local lease

  start_mirror $((4 * chunk))
  write_to 4096 85
  mirror_on
  talk take "{\"cursor\": 0, \"max_bytes\": $chunk}"
  lease=$answer
  cue destination 'write hold until=copied at=0 count=1'
  echo "$lease" > "$tmp/lease"
  start_bg copier sh -c "exec '$BUILD/tests/copy-extents' '$(uri proxy)' \
    '$(uri destination)' < '$tmp/lease'"
  wait_for late_has destination ' write 0 .* came'
  write_to 0 102
  go destination copied
  wait_bg copier
  done_with "$lease"
  settle
}

# Two writes to one place, in another order at the destination.
mirror_overlapping ()
{
  start_mirror $((4 * chunk))
  mirror_on
  cue destination 'write hold until=first at=0 count=1'
  start_write first 0 119
  wait_for late_has destination ' write 0 .* came'
  write_to 0 136
  go destination first
  wait_bg first
  settle
}

# The guest was told that all is well, and one side has not answered.
mirror_early_reply ()
{
  start_mirror $((4 * chunk))
  mirror_on
  cue destination 'write fail at=0 count=1'
  write_to 0 153
  settle
}

# A whole dirty chunk is written on both sides, and meanwhile something in it by
# another request, which is not mirrored.
mirror_cleans_late ()
{
  start_mirror $((4 * chunk))
  write_to 0 187 $chunk
  mirror_on
  cue destination 'write hold until=first at=0 count=1'
  start_write first 0 204 $chunk
  wait_for late_has destination ' write 0 .* came'
  write_to 4096 221
  go destination first
  wait_bg first
  settle
}

# A write for whose answer the guest did not wait.
mirror_forget_demoted ()
{
  start_mirror $((4 * chunk))
  mirror_on 20
  cue destination 'write hold until=late at=0 count=1'
  write_to 0 170
  settle
}

mirror_bugs=(mirror_no_conflict mirror_into_dirty mirror_into_leased
             mirror_overlapping mirror_early_reply mirror_cleans_late
             mirror_forget_demoted)
