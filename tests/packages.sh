# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# What the project needs from the distribution, and how to get it.  Sourced.
#
# Each package is paired with a probe that says whether what we want of it is
# there, however it came there:
#
#   cmd:NAME   a command              pc:MODULE  a pkg-config module
#   file:PATH  a file                 fuzzer:CC  a compiler that has libFuzzer
#
# So nothing is installed on a machine that built nbdkit from source, and the
# missing ones can be named where there is no apt.  Package names are Debian's.

packages_of ()
{
  case $1 in
  build)
    echo "make                cmd:make"
    echo "gcc                 cmd:gcc"
    echo "libc6-dev           file:/usr/include/stdio.h"
    echo "pkg-config          cmd:pkg-config"
    echo "nbdkit              cmd:nbdkit"
    echo "nbdkit-plugin-dev   pc:nbdkit"
    echo "libnbd-dev          pc:libnbd"
    echo "libjansson-dev      pc:jansson"
    echo "libgnutls28-dev     pc:gnutls"
    echo "perl                cmd:pod2man"
    ;;
  demo)
    ;;
  short) # for the unit tests and those that .ci/run has on other releases
    echo "libcunit1-dev       pc:cunit"
    echo "libnbd-bin          cmd:nbdcopy"
    echo "qemu-utils          cmd:qemu-nbd"
    echo "jq                  cmd:jq"
    ;;
  tests)
    packages_of short
    echo "fio                 cmd:fio"
    # The campaign is faster with it, and does without.
    echo "gojq                cmd:gojq"
    # nbdmigrate-report, and a look at its page.
    echo "gnuplot-nox         cmd:gnuplot"
    echo "libxml2-utils       cmd:xmllint"
    echo "openssl             cmd:openssl"
    echo "gnutls-bin          cmd:certtool"
    echo "strace              cmd:strace"
    echo "bsdextrautils       cmd:column"
    echo "mount               cmd:losetup"
    # Since 2.42 it is no part of util-linux any more.
    echo "util-linux-extra    cmd:pivot_root"
    # The guest under qemu-system (tests/guest/).
    echo "qemu-system-x86     cmd:qemu-system-x86_64"
    echo "busybox-static      cmd:busybox"
    echo "cpio                cmd:cpio"
    echo "xz-utils            cmd:xz"
    echo "e2fsprogs           cmd:mke2fs"
    echo "iproute2            cmd:ip"
    echo "python3             cmd:python3"
    echo "zsh                 cmd:zsh"
    # Other servers and clients, and the examples.
    echo "python3-libnbd      cmd:nbdsh"
    echo "nbd-server          cmd:nbd-server"
    echo "qemu-system-common  cmd:qemu-storage-daemon"
    echo "systemd             cmd:systemd-analyze"
    ;;
  recipes) # for make check-recipes
    echo "libvirt-clients     cmd:virsh"
    echo "libvirt-daemon      cmd:libvirtd"
    echo "libvirt-daemon-driver-qemu file:/var/lib/dpkg/info/libvirt-daemon-driver-qemu.list"
    ;;
  ceph) # for tests/recipe-ceph.sh
    echo "ceph-mon            cmd:ceph-mon"
    echo "ceph-osd            cmd:ceph-osd"
    echo "ceph-common         cmd:rbd"
    echo "qemu-block-extra    file:/var/lib/dpkg/info/qemu-block-extra.list"
    echo "iproute2            cmd:ip"
    ;;
  ci)
    echo "clang-format        cmd:clang-format"
    echo "shellcheck          cmd:shellcheck"
    echo "spin                cmd:spin"
    echo "gcovr               cmd:gcovr"
    # The recipes.
    echo "libvirt-clients     cmd:virt-xml-validate"
    echo "openssh-server      cmd:sshd"
    # The manifests for Kubernetes.
    echo "python3-kubernetes  file:/usr/lib/python3/dist-packages/kubernetes"
    # The report's page, looked at; the Debian packages (packaging/check-packages.sh).
    echo "chromium            cmd:chromium"
    echo "debhelper           cmd:dh"
    echo "dpkg-dev            cmd:dpkg-buildpackage"
    echo "lintian             cmd:lintian"
    echo "debootstrap         cmd:debootstrap"
    # What is kept by --metrics.
    echo "prometheus          cmd:promtool"
    echo "python3-prometheus-client file:/usr/lib/python3/dist-packages/prometheus_client"
    # examples/evacuate.  On a machine of its own only: it starts a server.
    echo "ansible-core        cmd:ansible-playbook"
    echo "openssh-server      cmd:sshd"
    # The fuzzers (tests/fuzz/).
    echo "clang               cmd:clang"
    echo "libclang-rt-dev     fuzzer:clang"
    ;;
  *)
    echo "packages.sh: no such list: $1" >&2
    return 1
    ;;
  esac
}

# Whether what a probe asks for is there.  Some commands live where only root
# looks.
probe ()
{
  local what=${1#*:}

  case $1 in
  cmd:*) PATH="$PATH:/usr/sbin:/sbin" command -v "$what" > /dev/null ;;
  pc:*) pkg-config --exists "$what" 2> /dev/null ;;
  file:*) test -e "$what" ;;
  fuzzer:*)
    echo 'int LLVMFuzzerTestOneInput (void) { return 0; }' |
      "$what" -x c -fsanitize=fuzzer,address - -o /dev/null 2> /dev/null
    ;;
  *) return 1 ;;
  esac
}

# Tests download a kernel (and unpack it), so apt has to know its package: on
# an image with everything installed its lists are often gone.
refresh_lists ()
{
  command -v apt-get > /dev/null && [ "$(id -u)" -eq 0 ] || return 0
  apt-cache show linux-image-cloud-amd64 > /dev/null 2>&1 ||
    apt-get -q update < /dev/null >&2 || :
}

# Names of the packages in the lists that are missing, one a line.
missing_packages ()
{
  local list name probe

  for list; do
    packages_of "$list" | while read -r name probe; do
      probe "$probe" || echo "$name"
    done
  done
}

# Run a command as root.
as_root ()
{
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo > /dev/null; then
    sudo "$@"
  else
    return 127
  fi
}

apt_install ()
{
  local apt=(env DEBIAN_FRONTEND=noninteractive
             apt-get -q -o DPkg::Lock::Timeout=300)

  as_root "${apt[@]}" update &&
    as_root "${apt[@]}" install -y --no-install-recommends "$@"
}

# install_missing LIST...: install what is missing of the lists, or say what it
# is and fail.  Does nothing, as any user, when nothing is missing.
install_missing ()
{
  local missing

  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0

  if ! command -v apt-get > /dev/null; then
    {
      echo "These packages are missing (by their Debian names):"
      echo "  ${missing[*]}"
      echo "Please install them with this system's package manager," \
           "then run this again."
    } >&2
    return 1
  fi
  if [ "$(id -u)" -ne 0 ] && ! command -v sudo > /dev/null; then
    {
      echo "These packages are missing: ${missing[*]}"
      echo "Installing them needs root or sudo.  As root:"
      echo "  apt-get update && apt-get install ${missing[*]}"
    } >&2
    return 1
  fi

  echo "Installing: ${missing[*]}" >&2
  # apt's own output is not what the caller prints.
  apt_install "${missing[@]}" < /dev/null >&2 || {
    echo "apt-get could not install: ${missing[*]}" >&2
    return 1
  }

  mapfile -t missing < <(missing_packages "$@")
  [ "${#missing[@]}" -eq 0 ] || {
    echo "Still missing after the installation: ${missing[*]}" >&2
    return 1
  }
}
