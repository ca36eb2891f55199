# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154,SC2034,SC2054 # functions.sh and guest.sh set and use them
#
# QEMU's guest agent in the guest.  Sourced after guest.sh.
#
# Its package is downloaded and unpacked (AGENT_DEB=FILE: this one), never installed.

# Its channel, with QEMU's end at $tmp/agent.sock.
guest_agent_device=(
  -device virtio-serial-pci
  -chardev "socket,id=agent,path=$tmp/agent.sock,server=on,wait=off"
  -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
)

# guest_make_agent: the next guest has it, with the libraries that it wants.
guest_make_agent ()
{
  local root=$tmp/agent package=${AGENT_DEB:-} library

  requires cpio dpkg-deb ldd dumpe2fs
  mkdir "$tmp/deb" "$root"
  if [ -z "$package" ]; then
    (cd "$tmp/deb" &&
       apt-get -q -o APT::Sandbox::User=root download qemu-guest-agent) \
      > "$tmp/download.log" 2>&1 || skip "qemu-guest-agent cannot be downloaded"
    package=$(echo "$tmp"/deb/*.deb)
  fi
  dpkg-deb -x "$package" "$tmp/deb/files"
  install -D "$tmp"/deb/files/usr/*bin/qemu-ga "$root/usr/sbin/qemu-ga"
  ldd "$root/usr/sbin/qemu-ga" > "$tmp/libraries"
  ! grep 'not found' "$tmp/libraries" || skip "the agent wants other libraries"
  grep -oE '/[^ ]+' "$tmp/libraries" | while read -r library; do
    install -D "$library" "$root$library"
  done
  # Its port comes a moment after its driver.
  cat > "$root/beside" <<'END'
#!/bin/busybox sh
until port=$(ls /dev/vport*p1); do sleep 0.1; done
exec /usr/sbin/qemu-ga -m virtio-serial -p "$port" -t / -f /agent.pid
END
  chmod +x "$root/beside"
  (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$tmp/agent.initrd"
  guest_initrd=$tmp/agent.initrd
}

# guest_disk_is_unclean IMAGE: whether its journal is to be replayed, which that of a
# frozen file system is not.
guest_disk_is_unclean ()
{
  dumpe2fs -h "$1" 2> "$tmp/dumpe2fs.log" | grep needs_recovery > "$tmp/flags"
}
