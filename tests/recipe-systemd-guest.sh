#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 300
#
# examples/systemd/ with systemd as process 1, and a Linux guest, emulated, whose disk is
# behind a proxy as its README says: it boots with the machine, waits while the proxy is
# restarted, and when the machine is shut down it ends, and flushes, while its disk is
# there.
#
# make check-recipes runs it; a guest that boots is too much for make check.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit
# shellcheck source=tests/systemd.sh
source "$SRCDIR/tests/systemd.sh"
# shellcheck source=tests/guest/guest.sh
source "$SRCDIR/tests/guest/guest.sh"
guest_prepare

make_machine
there=$tmp/shared/guest
cp "$BUILD"/guest/{vmlinuz,initrd} "$there/"
: > "$there/line.out"
mkfifo "$there/line.in"
ln -s "$there/line.out" "$tmp/guest.line.out"
ln -s "$there/line.in" "$tmp/guest.line.in"
ln -s "$there/console" "$tmp/guest.console.log"
chmod 666 "$there"/*
guest_make_disk "$machine/srv/nbd/vm1.img"
open_images

# The disk is the README's -blockdev; the rest is as in tests/guest/guest.sh.
cat > "$there/start" <<END
#!/bin/sh
exec qemu-system-x86_64 -accel tcg -machine pc -nodefaults -display none \\
  -m $guest_memory -no-reboot \\
  -kernel /shared/guest/vmlinuz -initrd /shared/guest/initrd \\
  -append 'console=ttyS0 quiet panic=-1 no_timer_check writer_pause_ms=5' \\
  -serial file:/shared/guest/console \\
  -chardev pipe,id=line,path=/shared/guest/line -serial chardev:line \\
  $(sed -n 's/^ *-blockdev \(.*\)$/-blockdev \1/p' "$SRCDIR/examples/systemd/README.md") \\
  -device virtio-blk-pci,drive=disk,rerror=stop,werror=stop
END
# As libvirt-guests has it: the guest is asked to end, and waited for.
cat > "$there/stop" <<'END'
#!/bin/sh
echo STOP > /shared/guest/line.in
while kill -0 "$MAINPID"; do
  sleep 0.1
done 2> /dev/null
END
chmod 755 "$there"/{start,stop}
make_guest_unit <<'END'
ExecStart=/shared/guest/start
ExecStop=/shared/guest/stop
TimeoutStopSec=60
END
wants nbdkit-migrate@vm1 guest

echo "-- it boots, and its guest with it"
boot
guest_works guest

echo "-- the proxy is restarted, and killed"
inside systemctl restart nbdkit-migrate@vm1
guest_works guest
inside systemctl kill -s KILL nbdkit-migrate@vm1
guest_works guest

echo "-- shut down"
shut_down 90
guest_is_well guest
grep '^UNMOUNTED' "$there/line.out" || fail "the guest did not unmount its disk"
grep -q '^POWEROFF' "$there/line.out" || fail "the guest did not power off"
guest_check_disk "$machine/srv/nbd/vm1.img" guest
