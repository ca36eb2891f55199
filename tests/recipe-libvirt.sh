#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 300
#
# docs/recipes.md, "A guest of libvirt": a Linux guest that libvirt starts from
# examples/libvirt/domain.xml, emulated, with a kernel of the test's and a guest agent.
# Its disk is copied while libvirt has its file systems frozen (examples/hook/freeze.sh),
# and pivoted under it; the proxy is killed and started again, and the guest waits, where
# this libvirt can tell QEMU so.
#
# make check-recipes runs it; a guest that boots is too much for make check.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/guest/guest.sh
source "$SRCDIR/tests/guest/guest.sh"
# shellcheck source=tests/guest/agent.sh
source "$SRCDIR/tests/guest/agent.sh"
PATH=$PATH:/usr/sbin:/sbin
requires nbdkit virsh libvirtd setpriv
guest_prepare
guest_make_agent

# ---- libvirt, of a user who is not root ------------------------------------

home=$tmp/home
as_user=()
chmod 755 "$tmp"
install -d -m 700 "$home" "$home/libvirt"
# Or virtlogd, where it is installed, is started to write logs, and outlives libvirtd.
echo 'stdio_handler = "file"' > "$home/libvirt/qemu.conf"
if [ "$(id -u)" -eq 0 ]; then
  # One whom the system knows: libvirt 11.3 ends by a signal where it does not.
  as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
  chown -R nobody:nogroup "$home"
fi
export XDG_RUNTIME_DIR=$home
export LIBVIRT_DEFAULT_URI="qemu:///session?socket=$home/libvirt/libvirt-sock"

answers ()
{
  virsh -q "$@" > "$tmp/answer" 2>&1
}

is_off ()
{
  answers domstate vm1 && grep 'shut off' "$tmp/answer" > /dev/null
}

# No child of ours, and libvirtd may have ended.
# shellcheck disable=SC2329 # at_end
kill_guest ()
{
  [ -z "${pids[guest]:-}" ] || ! is_running "${pids[guest]}" || kill -KILL "${pids[guest]}"
}

# domain: that of the example, but for what the test's guest needs.
domain ()
{
  local xml

  xml=$(cat "$SRCDIR/examples/libvirt/domain.xml")
  xml=${xml/type=\"kvm\"/type=\"qemu\"}
  xml=${xml/<memory unit=\"GiB\">2/<memory unit=\"KiB\">${guest_memory%k}}
  xml=${xml/\/run\/vm1.sock\"\/>/$tmp/proxy.sock\"\/>}
  xml=${xml/<\/os>/<kernel>$home/vmlinuz<\/kernel>
    <initrd>$home/initrd<\/initrd>
    <cmdline>console=ttyS0 quiet panic=-1 no_timer_check writer_pause_ms=5<\/cmdline>
  <\/os>
  <on_reboot>destroy<\/on_reboot>}
  xml=${xml/<\/devices>/  <serial type=\"file\"><source path=\"$home/console\"\/><\/serial>
    <serial type=\"pipe\"><source path=\"$home/line\"\/><\/serial>
    <channel type=\"unix\"><target type=\"virtio\" name=\"org.qemu.guest_agent.0\"\/><\/channel>
  <\/devices>}
  echo "$xml"
}

start_server ()
{
  start_proxy proxy file "$tmp/source"
  chmod 666 "$tmp/proxy.sock"
}

guest_make_disk "$tmp/source"
truncate -s "${guest_disk_mib}M" "$tmp/copy" "$tmp/destination"
start_server
start_bg libvirtd "${as_user[@]}" env HOME="$home" XDG_CONFIG_HOME="$home" \
  XDG_CACHE_HOME="$home" libvirtd
must_live=(libvirtd)
wait_for answers version
cat "$tmp/answer"

echo "-- the guest"
cat "$BUILD/guest/initrd" "$guest_initrd" > "$home/initrd"
cp "$BUILD/guest/vmlinuz" "$home/"
: > "$home/line.out"
mkfifo "$home/line.in"
ln -s home/line.out "$tmp/guest.line.out"
ln -s home/line.in "$tmp/guest.line.in"
ln -s home/console "$tmp/guest.console.log"
chmod 666 "$home"/{initrd,vmlinuz,line.in,line.out}
domain > "$tmp/domain.xml"
at_end kill_guest
waits=yes
if ! answers define --validate "$tmp/domain.xml"; then
  # libvirt 9.0 has no such delay for NBD.
  cat "$tmp/answer"
  sed -i '/<reconnect delay/d' "$tmp/domain.xml"
  waits=
  answers define --validate "$tmp/domain.xml" || fail "$(cat "$tmp/answer")"
fi
answers start vm1 || fail "$(cat "$tmp/answer")"
pids[guest]=$(cat "$home/libvirt/qemu/run/vm1.pid")
guest_works guest

echo "-- a copy, frozen by libvirt"
wait_for answers qemu-agent-command vm1 '{"execute": "guest-ping"}'
start_nbdkit copy file "$tmp/copy"
GUEST=vm1 must_migrate --finish=detach --hook="$SRCDIR/examples/hook/freeze.sh" \
  "$(uri proxy)" "$(uri copy)"
end_bg copy
! guest_disk_is_unclean "$tmp/copy" || fail "it was not frozen"
e2fsck -fn "$tmp/copy" || fail "e2fsck found something"
guest_works guest

echo "-- a pivot under it"
start_nbdkit destination file "$tmp/destination"
must_migrate --finish=pivot "$(uri proxy)" "$(uri destination)"
guest_works guest

if [ -n "$waits" ]; then
  echo "-- the proxy is killed, and started again"
  crash_bg proxy
  start_server
  guest_works guest
else
  echo "this libvirt knows no reconnect delay: a proxy that is killed was not tried"
fi
guest_verify guest
echo STOP 1<> "$home/line.in"
wait_for is_off
unset "pids[guest]"
guest_is_well guest
grep '^UNMOUNTED' "$tmp/guest.line.out" || fail "it did not unmount its disk"
end_bg libvirtd
left=$(find "$home/libvirt" -name 'virtlogd*')
[ -z "$left" ] || fail "virtlogd was started: $left"
end_bg proxy
end_bg destination
guest_check_disk "$tmp/destination" guest
