#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A hook for `nbdmigrate --hook`: the file systems of a guest are frozen before the
# pause and thawed after it, so that a copy (--finish=detach) can be mounted without
# a repair.  With the QEMU guest agent:
#
#   GUEST=vm1 nbdmigrate --hook=examples/hook/freeze.sh --finish=detach ...
#
# or, of a file system on this host, on a device that the proxy serves:
#
#   MOUNTPOINT=/srv/data nbdmigrate --hook=... --finish=detach ...
#
# If nbdmigrate is killed between the two nobody would thaw: so that is done here
# after THAW_AFTER seconds (15) in any case.

set -euo pipefail

thaw ()
{
  if [ -n "${GUEST:-}" ]; then
    virsh -q domfsthaw "$GUEST"
  else
    fsfreeze --unfreeze "${MOUNTPOINT:?a guest or a mountpoint}"
  fi
}

case ${1:-} in
before)
  # The watchman must not die with this group, nor hold its output open.
  setsid bash -c "$(declare -f thaw); sleep ${THAW_AFTER:-15}; thaw" \
    < /dev/null > /dev/null 2>&1 &
  if [ -n "${GUEST:-}" ]; then
    virsh -q domfsfreeze "$GUEST"
  else
    fsfreeze --freeze "${MOUNTPOINT:?a guest or a mountpoint}"
  fi
  ;;
after)
  thaw || : # the watchman may have been here
  ;;
*)
  echo "usage: $0 before|after SOURCE..." >&2
  exit 2
  ;;
esac
