#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The referee itself: it passes what is right and fails what is wrong.  A judge
# that never says no proves nothing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy

# verdict EXIT-STATUS MODE IMAGE ARGUMENT...: on a file.
verdict ()
{
  local status=$1 mode=$2 image=$3

  shift 3
  expect_status "$status" nbdkit -U - file "$image" --run "$(printf '%q ' \
    "$referee" verify --log "$tmp/guest.record" --mode "$mode" "$@") \
    --uri \"\$uri\" 2> $tmp/verdict.log"
}

# run_guest ARGUMENT...: in the foreground.
run_guest ()
{
  "$referee" run --uri "$(uri disk)" --log "$tmp/guest.record" \
    --initial "$pattern" "$@"
}

# poke IMAGE OFFSET LENGTH [FROM]: other bytes, or those of another image.
poke ()
{
  dd if="${4:-/dev/urandom}" of="$1" bs=1 conv=notrunc status=none \
    skip="$([ $# -lt 4 ] && echo 0 || echo "$2")" seek="$2" count="$3"
}

start_nbdkit disk memory $((8 * 1024 * 1024 + 511))
fill "$(uri disk)" 50

echo "-- what is right"
run_guest --seed "$seed" --ops 3000 --depth 16
nbdcopy "$(uri disk)" "$tmp/first"
between=$(now)
run_guest --resume --ops 3000 --depth 16
after=$(now)
nbdcopy "$(uri disk)" "$tmp/second"
verdict 0 final "$tmp/second"
verdict 0 cut "$tmp/first" --cut-after "$between" --cut-before "$between"
verdict 0 cut "$tmp/second" --cut-after "$after" --cut-before "$after"

echo "-- an older state"
verdict 3 final "$tmp/first"
verdict 3 cut "$tmp/first" --cut-after "$after" --cut-before "$after"
grep -q "was never so between" "$tmp/verdict.log"
verdict 3 cut "$tmp/second" --cut-after "$between" --cut-before "$between"

echo "-- half old, half new, with the bounds wide enough for both"
head -c 4M "$tmp/first" > "$tmp/mixed"
tail -c +$((4 * 1024 * 1024 + 1)) "$tmp/second" >> "$tmp/mixed"
verdict 3 cut "$tmp/mixed" --cut-after "$between" --cut-before "$after"
grep -q "most cells are as at" "$tmp/verdict.log"

echo "-- one wrong byte"
cp "$tmp/second" "$tmp/poked"
poke "$tmp/poked" $((5 * 1024 * 1024 + seed % 100000)) 2
verdict 3 final "$tmp/poked"

echo "-- one request that is there only in part"
cp "$tmp/second" "$tmp/before"
for ((i = 0; i < 100; i++)); do
  before=$(now)
  run_guest --resume --ops 1 --kinds w > "$tmp/one.out" 2>&1
  read -r _ _ _ kind first count < <(grep '^S' "$tmp/guest.record" |
                                       grep -v ' f ' | tail -n 1)
  after=$(now)
  nbdcopy "$(uri disk)" "$tmp/second"
  ((count < 2)) || break
  cp "$tmp/second" "$tmp/before"
done
((count >= 2)) || fail "no request of several cells in 100"
read -r _ _ offset length < <("$referee" cells --log "$tmp/guest.record" |
                                grep "^$first ")
cp "$tmp/before" "$tmp/torn"
poke "$tmp/torn" "$offset" "$length" "$tmp/second"
verdict 0 cut "$tmp/before" --cut-after "$before" --cut-before "$after"
verdict 0 cut "$tmp/second" --cut-after "$before" --cut-before "$after"
verdict 3 cut "$tmp/torn" --cut-after "$before" --cut-before "$after"
grep -q "kind $kind, is there only in part" "$tmp/verdict.log"

echo "-- a large disk: what nobody wrote, the first and the last byte"
end_bg disk
pattern=zero
start_nbdkit disk memory 256M
rm "$tmp/guest.record"
run_guest --seed "$seed" --ops 2000 --cells 512
verify_final guest "$(uri disk)"
"$referee" cells --log "$tmp/guest.record" > "$tmp/cells"
[ "$(head -n 1 "$tmp/cells" | cut -d ' ' -f 3)" -eq 0 ]
tail -n 1 "$tmp/cells" | { read -r _ _ o l; [ $((o + l)) -eq $((1 << 28)) ]; }
read -r _ _ offset length < <(sed -n 16p "$tmp/cells")
nbdcopy "$(uri disk)" "$tmp/large"
verdict 0 final "$tmp/large"
poke "$tmp/large" $((offset + length)) 2
verdict 3 final "$tmp/large"
grep -q "nobody wrote here" "$tmp/verdict.log"

echo "-- a server that forgets a write is found out while the guest runs"
end_bg disk
cat > "$tmp/forget.sh" <<'EOF'
#!/bin/sh
unset LD_PRELOAD # of a sanitizer
case "$1" in
  get_size) stat -c %s "$image" ;;
  pread) dd if="$image" skip="$4" count="$3" iflag=skip_bytes,count_bytes \
           status=none ;;
  pwrite) n=$(cat "$image.n"); echo $((n + 1)) > "$image.n"
          if [ $((n % 20)) -eq 19 ]; then cat > /dev/null
          else dd of="$image" seek="$4" oflag=seek_bytes conv=notrunc \
                 status=none; fi ;;
  can_write) exit 0 ;;
  *) exit 2 ;;
esac
EOF
chmod +x "$tmp/forget.sh"
truncate -s 64K "$tmp/forgetful"
echo 0 > "$tmp/forgetful.n"
image=$tmp/forgetful start_nbdkit disk sh "$tmp/forget.sh"
rm "$tmp/guest.record"
expect_status 3 run_guest --seed "$seed" --ops 2000 --depth 1 --kinds rw \
  2> "$tmp/forget.log"

echo "-- a failed write that a read returned must not go away again"
end_bg disk
cat > "$tmp/waver.sh" <<'EOF'
#!/bin/sh
unset LD_PRELOAD # of a sanitizer
put () { dd of="$image" seek="$1" oflag=seek_bytes conv=notrunc status=none; }
get () { dd if="$1" skip="$2" count="$3" iflag=skip_bytes,count_bytes \
           status=none; }
case "$1" in
  get_size) stat -c %s "$image" ;;
  pread) get "$image" "$4" "$3"
         if [ -e "$image.back" ]; then
           read -r offset count < "$image.back"
           if [ "$4" -le "$offset" ] &&
              [ $(($4 + $3)) -ge $((offset + count)) ]; then
             put "$offset" < "$image.old"; rm "$image.back"
           fi
         fi ;;
  pwrite) if [ -e "$image.back" ]; then put "$4"; rm "$image.back"
          else get "$image" "$4" "$3" > "$image.old"; put "$4"
               echo "$4 $3" > "$image.back"; echo EIO >&2; exit 1; fi ;;
  can_write) exit 0 ;;
  *) exit 2 ;;
esac
EOF
chmod +x "$tmp/waver.sh"
truncate -s 4K "$tmp/wavering"
image=$tmp/wavering start_nbdkit disk sh "$tmp/waver.sh"
rm "$tmp/guest.record"
expect_status 3 run_guest --seed "$seed" --ops 4000 --depth 1 --kinds rw \
  --cells 4 --tolerate-errors 2> "$tmp/waver.log"
grep -q 'a read has returned this' "$tmp/waver.log"

echo "-- zeroes of a gibibyte at once"
end_bg disk
start_nbdkit disk memory 1100M
rm "$tmp/guest.record"
run_guest --seed "$seed" --ops 3000 --cells 512 --kinds rwWzZtfL
grep -q '^S .* L ' "$tmp/guest.record" || fail "there were none"
verify_final guest "$(uri disk)"

echo "-- a guest that was killed: what was not acknowledged may be either"
end_bg disk
start_nbdkit disk memory 8M
rm "$tmp/guest.record"
# One request per connection: this nbdkit may abort otherwise.
start_guest guest "$(uri disk)" --depth 4 --connections 4
crash_bg guest
verify_final guest "$(uri disk)"

echo "-- a cache that was lost: only what was flushed must be there"
end_bg disk
truncate -s 4M "$tmp/flushed"
start_nbdkit disk "$BUILD/tests/nbdkit-lossy-plugin.so" file="$tmp/flushed"
rm "$tmp/guest.record"
run_guest --ops 500 --kinds wf
start_guest guest "$(uri disk)" --resume --kinds w --expect-disconnect
guest_goes_on guest 100
crash_bg disk
wait_bg guest || fail "exit status $?"
start_nbdkit disk "$BUILD/tests/nbdkit-lossy-plugin.so" file="$tmp/flushed"
nbdcopy "$(uri disk)" "$tmp/after"
verdict 3 final "$tmp/after"
echo "C $(date +%s%6N)" >> "$tmp/guest.record"
verdict 0 final "$tmp/after"
head -c 4M /dev/zero > "$tmp/nothing"
verdict 3 final "$tmp/nothing"
run_guest --resume --lost-cache --ops 100
[ "$(grep -c '^C' "$tmp/guest.record")" -eq 2 ]
verify_final guest "$(uri disk)"

echo "-- a flush of one disk says nothing of the other"
for i in 1 2; do
  start_nbdkit disk$i memory 1M
done
rm "$tmp/guest.record"
"$referee" run --uri "$(uri disk1)" --uri "$(uri disk2)" --log "$tmp/guest.record" \
  --seed "$seed" --ops 100 --kinds w --connections 1 > "$tmp/guest.out"
start_nbdkit empty memory 1M
last=$(sed -n 's/^S \([0-9]*\) .* f .*/\1/p' "$tmp/guest.record" | head -n 1)
# Without the flushes at the end, and then with one.
grep -vE "^[SA] ($last|$((last + 1))) " "$tmp/guest.record" > "$tmp/unflushed.record"
for disk in 0 1; do
  cp "$tmp/unflushed.record" "$tmp/guest.record"
  printf '%s\n' "S $last 1 f $disk 0" "A $last 2" "C 3" >> "$tmp/guest.record"
  expect_status $((disk ? 0 : 3)) "$referee" verify --log "$tmp/guest.record" \
    --mode=final --uri "$(uri empty)" --uri "$(uri disk2)" 2> "$tmp/verify.log"
done

echo "-- a server that ends the guest's work"
end_bg disk
start_nbdkit disk --filter=error memory 8M error=ESHUTDOWN error-rate=100% \
  error-file="$tmp/shut"
rm "$tmp/guest.record"
start_guest guest "$(uri disk)" --expect-shutdown
touch "$tmp/shut"
wait_bg guest || fail "exit status $?"
grep -q '"ended":"shutdown"' "$tmp/guest.out"
rm "$tmp/shut"
verify_final guest "$(uri disk)"
