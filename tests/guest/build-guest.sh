#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# build-guest.sh DIR: makes DIR/vmlinuz, DIR/initrd and DIR/writer, unless
# they are there and newer than what they are made from.
#
# The kernel is Debian's cloud kernel.  Its packages (one; after Debian 13 those of
# the kernel and of its modules) are downloaded and unpacked in DIR, never installed.
# GUEST_KERNEL_DEB='FILE ...' uses these packages instead.
# Exit 77: this machine cannot (no network, no busybox, no static C library).

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

cannot ()
{
  echo "SKIP: cannot build the guest: $*"
  exit 77
}

is_current ()
{
  local source

  [ -s "$dir/initrd" ] || return 1
  for source in "$here"/{build-guest.sh,init,writer.c}; do
    [ "$dir/initrd" -nt "$source" ] || return 1
  done
}

check_tools ()
{
  local tool

  for tool in apt-get cpio dpkg-deb gcc gzip readelf; do
    command -v "$tool" > /dev/null || cannot "no $tool"
  done
  busybox=$(command -v busybox) || cannot "no busybox (busybox-static)"
  # A dynamic one has no libraries in the initrd.
  if LC_ALL=C readelf -l "$busybox" | grep -q INTERP; then
    cannot "$busybox is not static (busybox-static)"
  fi
}

download_kernel ()
{
  local package parts

  package=$(apt-cache depends linux-image-cloud-amd64 2> /dev/null |
              awk '/Depends: linux-image/ { print $2; exit }')
  [ -n "$package" ] || cannot "apt knows no linux-image-cloud-amd64"
  mapfile -t parts < <(apt-cache depends "$package" |
    awk '/Depends: linux-(binary|modules)-/ { print $2 }')
  # As root, apt would complain that its own user cannot write there.
  (cd "$dir/deb" &&
     apt-get -q -o APT::Sandbox::User=root download "$package" \
       "${parts[@]}") 9>&- >&2 ||
    cannot "apt-get download $package failed"
}

# Leaves the unpacked package in DIR/kernel.
unpack_kernel ()
{
  local deb debs

  [ ! -d "$dir/kernel" ] || return 0
  rm -rf "$dir/deb" "$dir/kernel.new"
  mkdir "$dir/deb"
  read -r -a debs <<< "${GUEST_KERNEL_DEB:-}"
  if [ ${#debs[@]} -eq 0 ]; then
    download_kernel
    debs=("$dir"/deb/*.deb)
  fi
  for deb in "${debs[@]}"; do
    dpkg-deb -x "$deb" "$dir/kernel.new"
  done
  rm -rf "$dir/deb"
  mv "$dir/kernel.new" "$dir/kernel"
}

# add_module NAME: what it depends on first, as insmod wants it.  A module
# that is not there as a file is built into this kernel.
add_module ()
{
  local name=$1 file plain=$dir/root/modules/$1.ko dependency

  [ ! -e "$plain" ] || return 0
  # File names have - or _ where module names have _.
  file=$(find "$dir/kernel" -name "${name//_/[-_]}.ko*" | head -n 1)
  [ -n "$file" ] || return 0
  case $file in
  *.xz) xz -dc "$file" > "$plain" ;;
  *) cp "$file" "$plain" ;;
  esac
  for dependency in $(tr '\0' '\n' < "$plain" |
                        LC_ALL=C sed -n 's/^depends=//p' | tr ',' ' '); do
    add_module "$dependency"
  done
  echo "$name.ko" >> "$dir/root/modules/list"
}

build_writer ()
{
  gcc -static -O2 -std=gnu11 -Wall -Wextra -o "$dir/writer" \
      "$here/writer.c" || cannot "no static C library"
}

build_initrd ()
{
  local module

  rm -rf "$dir/root"
  mkdir -p "$dir"/root/{bin,dev,mnt,modules,proc,sys}
  cp "$busybox" "$dir/root/bin/busybox"
  cp "$dir/writer" "$dir/root/bin/writer"
  install -m 755 "$here/init" "$dir/root/init"
  : > "$dir/root/modules/list"
  for module in virtio_pci virtio_blk virtio_console crc32c_generic ext4; do
    add_module "$module"
  done
  (cd "$dir/root" && find . | cpio -o -H newc --quiet | gzip -1) \
    > "$dir/initrd.new"
  mv "$dir/initrd.new" "$dir/initrd"
}

# Two tests may want the guest at once.
exec 9> "$dir/lock"
flock 9
if is_current; then exit 0; fi

check_tools
unpack_kernel
find "$dir/kernel" -type f -name 'vmlinuz*' -exec cp {} "$dir/vmlinuz" \;
[ -s "$dir/vmlinuz" ] || cannot "there is no kernel in the packages"
build_writer
build_initrd
