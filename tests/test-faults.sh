#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Errors of the destination, and of the source, in each pass: exit status 1
# with the server's own error, the guest goes on on its source, and once the
# fault is gone the next run gives a right copy.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

start_proxy proxy --filter=error memory 8M error-pread=EIO \
  error-pread-rate=100% error-pread-file="$tmp/source-fails"
fill "$(uri proxy)" 80
start_guest guest "$(uri proxy)" --initial "$pattern" --kinds wWzZtf \
  --rate 4M # so that a slow destination keeps up

# broken WHAT TEXT MIGRATOR-ARGUMENT...: the migration must fail and say so.
broken ()
{
  local what=$1 text=$2

  shift 2
  echo "-- $what"
  expect_status 1 migrate --finish=detach "$@" "$(uri proxy)" \
    "$(uri destination)"
  cat "$tmp/migrate.log"
  grep -qF -- "$text" "$tmp/migrate.log" || fail "it does not say: $text"
  grep -qF -- "$(uri "${3:-destination}")" "$tmp/migrate.log"
  tail -n 1 "$tmp/migrate.log" | grep -q 'source .* authoritative'
  guest_goes_on guest
}

mended ()
{
  rm -f "$tmp"/*-fails "$tmp"/*-hangs
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  guest_goes_on guest
  verify_cut guest "$(uri destination)"
}

start_nbdkit destination --filter=error memory 8M \
  error-pwrite=ENOSPC error-pwrite-rate=100% \
  error-pwrite-file="$tmp/write-fails" \
  error-zero=EIO error-zero-rate=100% error-zero-file="$tmp/zero-fails"

touch "$tmp/write-fails"
broken "writes fail from the beginning" 'No space left on device'
mended

touch "$tmp/zero-fails"
broken "zeroes fail" 'Input/output error'
mended

touch "$tmp/source-fails"
echo "-- the source cannot be read"
expect_status 1 migrate --finish=detach "$(uri proxy)" "$(uri destination)"
cat "$tmp/migrate.log"
grep -q 'Input/output error' "$tmp/migrate.log"
grep -qE 'offset [0-9]+' "$tmp/migrate.log" || fail "it names no offset"
mended

echo "-- writes fail in a later pass"
start_migrate --finish=detach --rate=4M "$(uri proxy)" "$(uri destination)"
in_a_dirty_pass ()
{
  grep -q '"phase".*"dirty"' "$tmp/events" && return
  is_running "${pids[migrator]}" || fail "the migrator ended early"
  return 1
}
wait_for in_a_dirty_pass
touch "$tmp/write-fails"
expect_status 1 wait_bg migrator
guest_goes_on guest
mended

echo "-- the destination's flush fails"
end_bg destination
cat > "$tmp/flush.sh" <<EOF
#!/bin/sh
unset LD_PRELOAD # of a sanitizer
case "\$1" in
  get_size) echo $((8 * 1024 * 1024)) ;;
  can_write | can_flush) exit 0 ;;
  pread) dd if="$tmp/flushed" skip=\$4 count=\$3 status=none \
           iflag=skip_bytes,count_bytes ;;
  pwrite) dd of="$tmp/flushed" seek=\$4 oflag=seek_bytes conv=notrunc \
            status=none ;;
  flush) [ ! -e "$tmp/flush-fails" ] || { echo EIO no luck >&2; exit 1; } ;;
  *) exit 2 ;;
esac
EOF
chmod +x "$tmp/flush.sh"
truncate -s 8M "$tmp/flushed"
start_nbdkit destination sh "$tmp/flush.sh"
touch "$tmp/flush-fails"
broken "flushes fail" 'Input/output error' --max-pause=2s
rm "$tmp/flush-fails"
must_migrate --finish=detach --max-pause=2s "$(uri proxy)" "$(uri destination)"
verify_cut guest "$(uri destination)"

stop_guest guest
verify_final guest "$(uri proxy)"
end_bg proxy
end_bg destination

# Nothing that is flushed later proves that what this one lost is there.
echo "-- a flush beside the copying fails, and takes longer than the next"
rm -r "$tmp/proxy.dir"
start_proxy proxy memory 400M
fill "$(uri proxy)" 100
truncate -s 400M "$tmp/lossy"
start_nbdkit destination "$BUILD/tests/nbdkit-lossy-plugin.so" \
  file="$tmp/lossy" fail-flush=1 flush-ms=3000
expect_status 1 migrate --finish=detach --rate=40M "$(uri proxy)" \
  "$(uri destination)"
cat "$tmp/migrate.log"
grep -qF "flushing $(uri destination)" "$tmp/migrate.log"
crash_bg destination
start_nbdkit destination "$BUILD/tests/nbdkit-lossy-plugin.so" file="$tmp/lossy"
must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
same_content "$(uri proxy)" "$(uri destination)"
end_bg proxy
end_bg destination
