#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 400
#
# examples/systemd/ with systemd as process 1, installed as its README says: disks come
# before their guests and go after them, a proxy that is killed is started again, one that
# cannot start is tried again and again, and after the plug was pulled with a guest at work
# (all processes of the machine killed at once) all comes back by itself.
#
# make check-recipes runs it; a machine that boots three times is too much for make check.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit qemu-nbd qemu-img qemu-io jq
# shellcheck source=tests/systemd.sh
source "$SRCDIR/tests/systemd.sh"

# ---- the machine -----------------------------------------------------------

make_machine
ln -s "$tmp/shared/guest.log" "$tmp/guest.log"
cp "$SRCDIR/examples/systemd/qemu-nbd.example.conf" "$machine/etc/qemu-nbd/vm2.conf"
sed -i 's/vm1/vm2/' "$machine/etc/qemu-nbd/vm2.conf"
printf 'DISK=nbd socket=/run/qemu-nbd/vm2/nbd.sock\nOPTIONS=\n' \
  > "$machine/etc/nbdkit-migrate/vm2.conf"
truncate -s 8M "$machine/srv/nbd/vm1.img" "$machine/srv/nbd/destination.img"
qemu-img create -q -f qcow2 "$machine/srv/nbd/vm2.qcow2" 8M
open_images
wants nbdkit-migrate@vm1 nbdkit-migrate@vm2 destination guest libvirt-guests
ln -sf nbdkit-migrate@.service "$units/nbdkit-migrate@vm2.service"
systemctl -q --root="$machine" enable qemu-nbd@vm2
install -D -m 644 "$SRCDIR/examples/systemd/behind-qemu-nbd.conf" \
  "$units/nbdkit-migrate@vm2.service.d/behind-qemu-nbd.conf"
cat > "$units/destination.service" <<'END'
[Unit]
Before=nbdkit-migrate@vm1.service
[Service]
ExecStart=/usr/bin/nbdkit -f -i 127.0.0.1 file /srv/nbd/destination.img
END
make_guest_unit <<'END'
StandardError=append:/shared/guest.log
ExecStart=/bin/sh -c 'exec referee run --initial any --rate 200K --seed 1 \
  --uri "nbd+unix:///?socket=/run/nbdkit-migrate/vm1/nbd.sock" \
  --log /shared/guest/$$$$.record'
END
# libvirt's, as far as it matters here: at the end its guests flush what they have.
cat > "$units/libvirt-guests.service" <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'qemu-io -f raw -c "write -P 9 0 64k" -c flush \
  "nbd+unix:///?socket=/run/nbdkit-migrate/vm2/nbd.sock" > /shared/last-words 2>&1'
END

newest_record ()
{
  find "$tmp/shared/guest" -name '*.record' -printf '%T@ %p\n' | sort -n |
    tail -n 1 | cut -d ' ' -f 2
}

guest_is_at_work ()
{
  local record

  record=$(newest_record) && [ -n "$record" ] && (($(grep -c '^A' "$record") >= ${1:-20}))
}

disk='nbd+unix:///?socket=/run/nbdkit-migrate/vm1/nbd.sock'

echo "-- it boots, and an image comes late"
mv "$machine/srv/nbd/vm2.qcow2" "$machine/srv/nbd/late"
boot
has_failed ()
{
  (($(property qemu-nbd@vm2 NRestarts) >= 1))
}
wait_for has_failed
inside mv /srv/nbd/late /srv/nbd/vm2.qcow2
# The proxy is started anew with it.
for unit in qemu-nbd@vm2 nbdkit-migrate@vm1 nbdkit-migrate@vm2 guest; do
  wait_for is "$unit" active
done
wait_for guest_is_at_work
[ "$(property nbdkit-migrate@vm1 User)" = nbdkit-migrate ]
inside stat -c '%U:%G %a' /run/nbdkit-migrate/vm1/nbd.sock /var/lib/nbdkit-migrate/vm1
inside nbdinfo --size 'nbd+unix:///?socket=/run/nbdkit-migrate/vm2/nbd.sock' ||
  fail "$(inside journalctl -q -u nbdkit-migrate@vm2 -u qemu-nbd@vm2)"

echo "-- a pivot"
inside nbdmigrate --max-pause=4s "$disk" nbd://127.0.0.1 \
  > "$tmp/migrate.log" 2>&1 || fail "$(cat "$tmp/migrate.log")"
guest_is_at_work
wait_for [ -s "$machine/srv/nbd/vm1.img.moved" ]
has_pivoted ()
{
  inside journalctl -q -p "$1" -u nbdkit-migrate@vm1 > "$tmp/journal"
  grep -q 'pivoted from the local image' "$tmp/journal"
}
wait_for has_pivoted notice
! has_pivoted err || fail "good news has the level of an error"

echo "-- the plug is pulled, with the guest at work"
guest_is_at_work 50 || wait_for guest_is_at_work 50
pull_the_plug
record=$(newest_record)
cp "$record" "$tmp/guest.record"
chmod -x "$machine/bin/referee" # no guest, so that it can be looked at
boot
wait_for is nbdkit-migrate@vm1 active
cp "$tmp/guest.record" "$machine/shared/before.record"
cp "$referee" "$machine/shared/"
inside /shared/referee verify --mode=final --initial any --log /shared/before.record \
  --uri "$disk" || fail "the disk does not hold what the guest had written"
inside nbdmigrate status "$disk" | grep 'place .*nbd://127.0.0.1'

echo "-- a proxy is killed"
inside systemctl kill -s KILL nbdkit-migrate@vm1
restarts ()
{
  (($(property nbdkit-migrate@"$1" NRestarts) >= $2))
}
wait_for restarts vm1 1
wait_for is nbdkit-migrate@vm1 active
wait_for inside nbdmigrate status "$disk" > "$tmp/status"

echo "-- a filter that does not fit"
# As a package does it: what runs keeps the file that it has.
folder=$(inside nbdkit --dump-config | sed -n 's/^filterdir=//p')
inside sh -c "cd $folder && mv nbdkit-migrate-filter.so right && echo wrong > nbdkit-migrate-filter.so"
inside systemctl kill -s KILL nbdkit-migrate@vm1
WAIT_SECONDS=120 wait_for restarts vm1 7
! is nbdkit-migrate@vm1 failed || fail "it was given up"
inside sh -c "cd $folder && mv right nbdkit-migrate-filter.so"
wait_for inside nbdmigrate status "$disk" > "$tmp/status"

echo "-- shut down, and the guests have the last word"
chmod +x "$machine/bin/referee"
inside cp /shared/referee /usr/local/bin/referee
inside systemctl restart guest
wait_for guest_is_at_work
shut_down 60
grep -q 'wrote 65536/65536' "$machine/shared/last-words" ||
  fail "no disk at the end: $(cat "$machine/shared/last-words")"
cp "$(newest_record)" "$tmp/guest.record"
start_nbdkit destination file "$machine/srv/nbd/destination.img"
verify_final guest "$(uri destination)" --initial any
qemu-io -r -f qcow2 -c 'read -P 9 0 64k' "$machine/srv/nbd/vm2.qcow2" > "$tmp/read"
! grep -q failed "$tmp/read" || fail "the last words are lost"
