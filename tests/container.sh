#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# container.sh USER [-H 'ADDRESS NAME'] [-p PROGRAM]... [-f FILTER] [-v DIR:PLACE]...
#   -- COMMAND...
#
# COMMAND as the first process of namespaces of its own (mounts, processes), as USER, a
# number, with no rights: over this system's files under an overlay, of which nothing is
# kept, with the programs in /usr/local/bin, the filter among nbdkit's, and each DIR,
# which outlives it, at its place.  It ends with this one.

set -euo pipefail

user=$1
shift
if [ -z "${INSIDE:-}" ]; then
  INSIDE=1 exec setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child \
    --propagation=private "${BASH_SOURCE[0]}" "$user" "$@"
fi

work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
root=$work/root
mkdir "$root" "$work"/{upper,work}
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$root"
while getopts H:p:f:v: option; do
  case $option in
  H) echo "$OPTARG" >> "$root/etc/hosts" ;;
  p) install -m 755 "$OPTARG" "$root/usr/local/bin/" ;;
  f) install -m 755 "$OPTARG" "$root$(nbdkit --dump-config | sed -n 's/^filterdir=//p')/" ;;
  v)
    mkdir -p "$root${OPTARG#*:}"
    mount --bind "${OPTARG%%:*}" "$root${OPTARG#*:}"
    ;;
  *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs \
  --inh-caps=-all env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" < /dev/null
