#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# What a guest ordered across two disks is never seen out of order on the
# destinations: there is one instant that both copies show.  A guest that
# waits for the answer to a write on one disk before it writes to the other
# relies on that.
#
# The referee can tell: it does not accept copies of two instants, and catches
# a migrator that pauses the disks one after the other.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/disks.sh
source "$SRCDIR/tests/disks.sh"
requires nbdkit nbdcopy jq

runs=10 # of each build
broken=${BROKEN:-$BUILD/bug-hold_one_by_one/nbdmigrate}
[ -x "$broken" ] || skip "there is no $broken (make planted-bugs)"

size=$((512 * 1024 + 512)) # small: every place is written again and again
for i in 1 2; do
  start_proxy proxy$i memory $size
  start_nbdkit destination$i memory $size
done
S1=$(uri proxy1) S2=$(uri proxy2)
D1=$(uri destination1) D2=$(uri destination2)
fill_all 50 "$S1" "$S2"

# verdict STATUS AFTER BEFORE IMAGE IMAGE: of two files.
verdict ()
{
  local i

  for i in 1 2; do
    start_nbdkit image$i file "$tmp/${!#}"
    set -- "${@:1:$#-1}"
  done
  expect_status "$1" "$referee" verify --log "$tmp/guest.record" --mode=cut \
    --cut-after="$2" --cut-before="$3" --uri "$(uri image2)" \
    --uri "$(uri image1)" 2> "$tmp/verdict.log"
  end_bg image1
  end_bg image2
}

echo "-- two disks, two instants"
"$referee" run --uri "$S1" --uri "$S2" --log "$tmp/guest.record" \
  --seed "$seed" --initial "$pattern" --ops 1000
nbdcopy "$S1" "$tmp/first1"
nbdcopy "$S2" "$tmp/first2"
first=$(now)
"$referee" run --uri "$S1" --uri "$S2" --log "$tmp/guest.record" --resume \
  --ops 1000
second=$(now)
nbdcopy "$S1" "$tmp/second1"
nbdcopy "$S2" "$tmp/second2"
verdict 0 "$first" "$second" first1 first2
verdict 0 "$first" "$second" second1 second2
verdict 3 "$first" "$second" first1 second2
grep -q "most cells are as at" "$tmp/verdict.log"
verdict 3 "$first" "$second" second1 first2

start_guest_on guest "$S1" "$S2" -- --resume --depth 16

# one_instant: migrate; does it show one instant?
one_instant ()
{
  must_migrate --finish=detach "$S1" "$D1" "$S2" "$D2"
  guest_goes_on guest
  verify_one_instant guest "$D1" "$D2" > "$tmp/verdict.out" \
    2> "$tmp/verdict.log"
}

echo "-- the migrator"
for ((i = 1; i <= runs; i++)); do
  one_instant || fail "run $i: $(cat "$tmp/verdict.log")"
done

echo "-- a migrator that pauses the disks one after the other"
nbdmigrate=$broken
for ((i = 1; i <= runs; i++)); do
  status=0
  one_instant || status=$?
  [ $status -eq 0 ] || break
done
[ "$status" -eq 3 ] ||
  fail "the referee has not seen it in $runs runs ($status)"
echo "seen in run $i"
cat "$tmp/verdict.log"

stop_guest guest
verify_all_final guest "$S1" "$S2"
