#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A hook for `nbdmigrate --hook`: the file systems of a guest are frozen before the
# pause and thawed after it, so that a copy (--finish=detach) can be mounted without
# a repair.  With the QEMU guest agent:
#
#   GUEST=vm1 nbdmigrate --hook=examples/hook/freeze.sh --finish=detach ...
#
# of a guest of libvirt's; of a QEMU that was started by hand with the agent's socket
# (agent.py, beside this, says how):
#
#   AGENT=/run/vm1-agent.sock nbdmigrate --hook=... --finish=detach ...
#
# or, of a file system on this host, on a device that the proxy serves:
#
#   MOUNTPOINT=/srv/data nbdmigrate --hook=... --finish=detach ...
#
# If nbdmigrate is killed between the two nobody would thaw: so a watchman looks on,
# and does that as soon as nbdmigrate, which has started this, is gone; or if it hangs,
# after THAW_AFTER seconds (30).

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

freeze ()
{
  if [ -n "${GUEST:-}" ]; then
    virsh -q domfsfreeze "$GUEST"
  elif [ -n "${AGENT:-}" ]; then
    "$here/agent.py" "$AGENT" freeze
  else
    # Somebody else may have frozen it, and thaws it: nothing is ours to thaw.
    fsfreeze --freeze "$MOUNTPOINT" || {
      rm -f "$state"
      return 1
    }
  fi
}

thaw ()
{
  if [ -n "${GUEST:-}" ]; then
    virsh -q domfsthaw "$GUEST"
  elif [ -n "${AGENT:-}" ]; then
    "$here/agent.py" "$AGENT" thaw
  else
    fsfreeze --unfreeze "$MOUNTPOINT"
  fi
}

something_is_named ()
{
  [ -n "${GUEST:-}${AGENT:-}${MOUNTPOINT:-}" ] && return
  echo "$0: what to freeze is not known: set GUEST, AGENT or MOUNTPOINT for nbdmigrate" >&2
  return 1
}

# Both times nbdmigrate is the parent.
folder=${XDG_RUNTIME_DIR:-/run}
state=$folder/nbdmigrate-freeze-$PPID

notes_can_be_kept ()
{
  [ -d "$folder" ] && [ -w "$folder" ] && return
  echo "$0: $folder cannot be written to: set XDG_RUNTIME_DIR for nbdmigrate to a folder" \
    "of its user's" >&2
  return 1
}

# One at a time: of two runs for disks of one guest the second would be refused by the
# agent, and what it thaws then is the first one's.  The watchman has the lock as long as
# it is frozen; it looks twice a second.
nobody_else_freezes ()
{
  local what=${GUEST:-${AGENT:-$MOUNTPOINT}}

  exec 9> "$folder/nbdmigrate-freeze.${what//\//_}.lock"
  flock -w 1 9 && return
  echo "$0: $what is frozen by another nbdmigrate just now" >&2
  return 1
}

# watch WHO PARENT: as long as it is frozen, and by this one.
watch ()
{
  local end=$((SECONDS + ${THAW_AFTER:-30}))

  while [ "$(cat "$state" 2> /dev/null)" = "$1" ]; do
    # Whoever removes the file thaws: nbdmigrate may have ended as it should since
    # that was asked.
    if { ((SECONDS >= end)) || ! kill -0 "$2" 2> /dev/null; } &&
        rm "$state" 2> /dev/null; then
      thaw
    fi
    sleep 0.5
  done
}

case ${1:-} in
before)
  something_is_named && notes_can_be_kept && nobody_else_freezes || exit
  echo $$ > "$state"
  # The watchman must not die with this group, nor hold its output open.
  export state here
  setsid bash -c "$(declare -f thaw watch); watch $$ $PPID" \
    < /dev/null > /dev/null 2>&1 &
  freeze
  # The watchman was quicker: it has thawed what was not frozen yet.
  if [ "$(cat "$state" 2> /dev/null)" != $$ ]; then
    thaw
    exit 1
  fi
  ;;
after)
  something_is_named || exit
  # Whoever removes the file thaws, here too.
  if rm "$state" 2> /dev/null; then
    thaw
  else
    echo "$0: thawed already, or never frozen: if that pause has become a copy, it" \
      "may need a repair" >&2
  fi
  ;;
*)
  echo "usage: $0 before|after SOURCE..." >&2
  exit 2
  ;;
esac
