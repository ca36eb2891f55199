#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# systemd-machine.sh DIR: a machine whose process 1 is systemd, in namespaces of its own:
# this system's files under an overlay, and below DIR what outlives it, as a disk does:
#
#   DIR/etc, DIR/var, DIR/srv   laid over /etc, /var/lib and /srv
#   DIR/bin                     programs, in /usr/local/bin there
#   DIR/filter                  what is in nbdkit's folder of filters besides
#   DIR/shared                  /shared there, to talk to those outside
#
# It boots test.target, and ends with the status of "systemctl exit".  SIGTERM pulls the
# machine's plug: all of its processes are killed at once; but what they had written is
# kept, synced or not.

set -euo pipefail

dir=$(cd "$1" && pwd)
cgroup=nbdmigrate-machine-$$

# ---- outside: a control group of its own -----------------------------------

if [ -z "${INSIDE:-}" ]; then
  groups=()
  for top in /sys/fs/cgroup /sys/fs/cgroup/{systemd,unified}; do
    [ -e "$top/cgroup.procs" ] || continue
    mkdir "$top/$cgroup"
    groups+=("$top/$cgroup")
    echo $BASHPID > "$top/$cgroup/cgroup.procs"
  done
  [ ${#groups[@]} -gt 0 ] || { echo "there are no control groups" >&2; exit 77; }
  status=0
  INSIDE=$cgroup setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --cgroup --uts --ipc --net \
    --propagation=private "${BASH_SOURCE[0]}" "$dir" &
  trap 'kill -KILL $!' TERM
  wait $! || status=$?
  trap - TERM
  wait $! || : # after the signal
  for group in "${groups[@]}"; do
    echo $BASHPID > "$(dirname "$group")/cgroup.procs"
    # What was killed may still be on its way out.
    for ((i = 0; i < 100; i++)); do
      ! find "$group" -depth -type d -exec rmdir {} + 2> /dev/null || break
      sleep 0.1
    done
  done
  exit $status
fi

# ---- inside: mounts, then systemd ------------------------------------------

work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
root=$work/root
mkdir "$root" "$work"/{upper,work}
mount -t overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" overlay "$root"

# over PLACE NAME: DIR/NAME is what is changed there.
over ()
{
  mkdir -p "$dir/$2" "$dir/.work-$2" "$root$1"
  mount -t overlay -o "lowerdir=$1,upperdir=$dir/$2,workdir=$dir/.work-$2" overlay \
    "$root$1"
}
over /etc etc
over /var/lib var
over /srv srv
mkdir -p "$root/shared"
mount --bind "$dir/shared" "$root/shared"
cp "$dir"/bin/* "$root/usr/local/bin/"
filters=$(nbdkit --dump-config | sed -n 's/^filterdir=//p')
cp "$dir"/filter/*.so "$root$filters/"
mkdir -p "$root$(dirname "$dir")"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
for d in dev run tmp; do
  mount -t tmpfs tmpfs "$root/$d"
done
for d in null zero full random urandom; do
  : > "$root/dev/$d"
  mount --bind "/dev/$d" "$root/dev/$d"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"

if [ -e /sys/fs/cgroup/systemd/cgroup.procs ]; then
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  mkdir "$root"/sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
else
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
fi
ip link set lo up

cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=nbdmigrate PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=test.target --log-target=journal \
  --show-status=no < /dev/null
