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
PATH=$PATH:/usr/sbin:/sbin
requires nbdkit qemu-nbd qemu-img qemu-io jq unshare nsenter ip
requires_root
[ -x /lib/systemd/systemd ] || skip "there is no systemd"
use_disk

# ---- the machine -----------------------------------------------------------

machine=$on_disk/machine
units=$machine/etc/systemd/system
mkdir -p "$tmp/shared/guest" "$machine"/{bin,filter,srv/nbd,var} \
  "$units" "$machine"/etc/{nbdkit-migrate,qemu-nbd,sysusers.d}
ln -s "$tmp/shared" "$machine/shared"
ln -s shared/guest.log "$tmp/guest.log"
chmod 755 "$tmp" # the guest is another user
chmod 777 "$tmp/shared/guest"
cp "$filter" "$machine/filter/"
cp "$nbdmigrate" "$referee" "$machine/bin/"
cp "$SRCDIR"/examples/systemd/*.service "$units/"
cp "$SRCDIR/examples/systemd/sysusers.conf" "$machine/etc/sysusers.d/nbdkit-migrate.conf"
echo 'u testguest - "a guest"' > "$machine/etc/sysusers.d/testguest.conf"
cp "$SRCDIR/examples/systemd/example.conf" "$machine/etc/nbdkit-migrate/vm1.conf"
cp "$SRCDIR/examples/systemd/qemu-nbd.example.conf" "$machine/etc/qemu-nbd/vm2.conf"
sed -i 's/vm1/vm2/' "$machine/etc/qemu-nbd/vm2.conf"
printf 'DISK=nbd socket=/run/qemu-nbd/vm2/nbd.sock\nOPTIONS=\n' \
  > "$machine/etc/nbdkit-migrate/vm2.conf"
truncate -s 8M "$machine/srv/nbd/vm1.img" "$machine/srv/nbd/destination.img"
qemu-img create -q -f qcow2 "$machine/srv/nbd/vm2.qcow2" 8M
chmod 777 "$machine/srv/nbd"
chmod 666 "$machine/srv/nbd/"*

# Of a whole system no more than this.
for unit in /lib/systemd/system/sysinit.target.wants/*; do
  case ${unit##*/} in
  systemd-journald.service | systemd-sysusers.service | systemd-tmpfiles-setup.service) ;;
  *) ln -s /dev/null "$units/${unit##*/}" ;;
  esac
done
for unit in systemd-tmpfiles-setup-dev.service systemd-udevd.service systemd-udevd-{control,kernel}.socket; do
  ln -sf /dev/null "$units/$unit"
done
mkdir "$units/test.target.wants"
for unit in nbdkit-migrate@vm1 nbdkit-migrate@vm2 destination guest libvirt-guests; do
  ln -s "../$unit.service" "$units/test.target.wants/$unit.service"
done
ln -sf nbdkit-migrate@.service "$units/nbdkit-migrate@vm1.service"
ln -sf nbdkit-migrate@.service "$units/nbdkit-migrate@vm2.service"
mkdir "$units/nbdkit-migrate@vm2.service.requires"
ln -s ../qemu-nbd@.service "$units/nbdkit-migrate@vm2.service.requires/qemu-nbd@vm2.service"
echo -e '[Unit]\nDescription=Test' > "$units/test.target"
cat > "$units/destination.service" <<'END'
[Unit]
Before=nbdkit-migrate@vm1.service
[Service]
ExecStart=/usr/bin/nbdkit -f -i 127.0.0.1 file /srv/nbd/destination.img
END
# What the README says of guests that something else starts.
cat > "$units/guest.service" <<'END'
[Unit]
After=nbdkit-migrate@vm1.service
[Service]
User=testguest
SupplementaryGroups=nbdkit-migrate
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

# ---- from outside ----------------------------------------------------------

child_of ()
{
  local pid

  # There is no end of the line.
  read -r pid _ < "/proc/$1/task/$1/children" || [ -n "$pid" ] && echo "$pid"
} 2> /dev/null

is_booted ()
{
  local unshare

  is_running "${pids[machine]}" || fail "the machine does not boot"
  unshare=$(child_of "${pids[machine]}") && init=$(child_of "$unshare") &&
    [ "$(cat "/proc/$init/comm" 2> /dev/null)" = systemd ] &&
    inside systemctl is-active -q test.target 2> /dev/null
}

boot ()
{
  start_bg machine "$SRCDIR/tests/systemd-machine.sh" "$machine"
  WAIT_SECONDS=90 wait_for is_booted
}

# inside COMMAND...: as its root.
inside ()
{
  nsenter --target "$init" --mount --pid --uts --ipc --net --cgroup --root --wd \
    env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@" < /dev/null
}

# is UNIT STATE
is ()
{
  [ "$(inside systemctl is-active "$1")" = "$2" ]
}

property ()
{
  inside systemctl show --value -p "$2" "$1"
}

pull_the_plug ()
{
  kill_bg machine TERM
  wait_bg machine || :
}

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

echo "-- it boots"
boot
for unit in nbdkit-migrate@vm1 nbdkit-migrate@vm2 qemu-nbd@vm2 guest; do
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
inside systemctl --no-block exit 0
WAIT_SECONDS=60 wait_bg machine || fail "the machine ended with exit status $?"
grep -q 'wrote 65536/65536' "$machine/shared/last-words" ||
  fail "no disk at the end: $(cat "$machine/shared/last-words")"
cp "$(newest_record)" "$tmp/guest.record"
start_nbdkit destination file "$machine/srv/nbd/destination.img"
verify_final guest "$(uri destination)" --initial any
qemu-io -r -f qcow2 -c 'read -P 9 0 64k' "$machine/srv/nbd/vm2.qcow2" > "$tmp/read"
! grep -q failed "$tmp/read" || fail "the last words are lost"
