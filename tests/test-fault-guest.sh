#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Row 14 of the fault table: a guest is killed with writes under way, some of them
# held at the gate; and a guest's write fails at the source, having changed what it
# was to change.  Both leave the chunks dirty, and the pause does not wait for them for
# ever: in the end both sides are the same.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/late.sh
source "$SRCDIR/tests/late.sh"
# shellcheck source=tests/faults.sh
source "$SRCDIR/tests/faults.sh"
requires nbdkit jq qemu-io cmp

# held_at_gate N: so many of its writes are not answered, while the gate is shut.
held_at_gate ()
{
  awk -v n="$1" '$1 == "S" { n-- } /^[AE]/ { n++ } END { exit n > 0 }' \
    "$tmp/guest.record" && has_status "$(uri proxy)" '.gate == "closed"'
}

echo "-- a guest is killed"
# One request for each connection: nbdkit before 1.34 ends otherwise.
start_row 4M --depth 8 --connections 8
for when in bulk pause; do
  if [ $when = bulk ]; then
    start_migrate --finish=detach --rate=4M --max-pause=4s \
      "$(uri proxy)" "$(uri destination)"
    wait_for has_status "$(uri proxy)" '.progress.phase == "bulk"'
  else
    in_pause --finish=detach
    wait_for held_at_gate 4
  fi
  crash_bg guest
  cue destination
  [ $when = bulk ] || kill_bg migrator CONT
  wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
  verify_cut guest "$(uri destination)" > "$tmp/verdict"
  start_bg guest "$referee" run --uri "$(uri proxy)" --log "$tmp/guest.record" \
    --resume --rate 2M --depth 8 --connections 8
  guest_goes_on guest
done
stop_guest guest > "$tmp/guest.report"
end_bg proxy

echo "-- a guest's write fails at the source, half done"
rm -r "$tmp/proxy.dir"
truncate -s 1M "$tmp/bad.img"
cat > "$tmp/bad.sh" <<EOF
#!/bin/sh
unset LD_PRELOAD # of a sanitizer
case "\$1" in
  get_size) echo 1M ;;
  can_write | can_flush | flush) exit 0 ;;
  can_multi_conn | can_trim | can_zero | can_extents) exit 3 ;;
  thread_model) echo parallel ;;
  pread) dd if="$tmp/bad.img" skip=\$4 count=\$3 status=none \
           iflag=skip_bytes,count_bytes ;;
  pwrite) dd of="$tmp/bad.img" seek=\$4 oflag=seek_bytes conv=notrunc status=none
          [ ! -e "$tmp/fails" ] || { echo EIO half done >&2; exit 1; } ;;
  *) exit 2 ;;
esac
EOF
chmod +x "$tmp/bad.sh"
start_nbdkit served sh "$tmp/bad.sh"
start_proxy proxy nbd uri="$(uri served)"
truncate -s 1M "$tmp/destination.img"
end_bg destination
start_late destination volatile=1
wait_in_sync --finish=detach --max-pause=4s
touch "$tmp/fails"
qemu-io -f raw -c 'write -P 7 128K 64K' "$(uri proxy)" > "$tmp/io.out" || :
grep -q 'Input/output error' "$tmp/io.out" || fail "it did not fail: $(cat "$tmp/io.out")"
rm "$tmp/fails"
"$nbdmigrate" finish --no-wait "$(uri proxy)"
wait_bg migrator || fail "exit status $?: $(cat "$tmp/migrator.log")"
cmp "$tmp/bad.img" "$tmp/destination.img"
[ "$(od -An -tx1 -j128K -N1 "$tmp/destination.img")" = " 07" ]
