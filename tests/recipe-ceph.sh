#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# docs/recipes.md, "Ceph, or another server that imports by NBD", with a cluster of
# Ceph's that has one monitor and one OSD, in memory: a disk is moved into an image of it
# under its guest's hands, by qemu-nbd; and an image imports by NBD from a proxy whose
# guest is down (Ceph 20), where it is read before, while and after that is done.
#
# make check-ceph runs it, in a chroot of a release that has Ceph 20.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd ceph ceph-mon ceph-osd ceph-authtool monmaptool rbd cmp
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
use_disk

# ---- the cluster -----------------------------------------------------------

add_host a
export CEPH_CONF=$tmp/ceph.conf

# shellcheck disable=SC2329 # by in_host
start_cluster ()
{
  local fsid

  fsid=$(cat /proc/sys/kernel/random/uuid)
  mkdir "$tmp/mon" "$tmp/osd"
  cat > "$CEPH_CONF" <<END
[global]
fsid = $fsid
mon host = [v2:${addresses[a]}:3300,v1:${addresses[a]}:6789]
public network = ${addresses[a]}/24
auth cluster required = none
auth service required = none
auth client required = none
keyring = $tmp/keyring
run dir = $tmp
log file =
admin socket =
mon data = $tmp/mon
mon allow pool size one = true
osd data = $tmp/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd pool default size = 1
osd crush chooseleaf type = 0
END
  {
    ceph-authtool --create-keyring "$tmp/keyring" --gen-key -n mon. --cap mon 'allow *'
    monmaptool --create --fsid "$fsid" \
      --addv a "[v2:${addresses[a]}:3300,v1:${addresses[a]}:6789]" "$tmp/monmap"
    "${in[@]}" ceph-mon --mkfs -i a --monmap "$tmp/monmap" --keyring "$tmp/keyring"
  } > "$tmp/mkfs.log" 2>&1 || fail "no monitor: $(cat "$tmp/mkfs.log")"
  start_bg mon ceph-mon -f -i a
  wait_for ceph_answers
  "${in[@]}" ceph osd new "$(cat /proc/sys/kernel/random/uuid)" > "$tmp/osd.id"
  "${in[@]}" ceph-osd --mkfs -i "$(cat "$tmp/osd.id")" --osd-uuid "$(osd_uuid)" \
    > "$tmp/mkfs.log" 2>&1 || fail "no OSD: $(cat "$tmp/mkfs.log")"
  # Debian's looks for the classes of objects relative to where it is.
  start_bg osd env -C / ceph-osd -f -i "$(cat "$tmp/osd.id")"
  wait_for osd_is_up
  "${in[@]}" ceph osd pool create rbd 8
  "${in[@]}" rbd pool init rbd
}

# shellcheck disable=SC2329
ceph_answers ()
{
  timeout 10 "${in[@]}" ceph --connect-timeout 5 -s > "$tmp/status" 2>&1
}

osd_uuid ()
{
  "${in[@]}" ceph osd dump --format json | jq -r '.osds[0].uuid'
}

# shellcheck disable=SC2329
osd_is_up ()
{
  [ "$("${in[@]}" ceph osd dump --format json | jq '.osds[0].up')" = 1 ]
}

# shellcheck disable=SC2329
start_rbd_server ()
{
  start_qemu_nbd image -e 16 --discard=unmap -f raw "rbd:rbd/vm1:conf=$CEPH_CONF"
}

# must_hold IMAGE FILE
must_hold ()
{
  in_host a rbd export --no-progress "$1" - | cmp - "$2" || fail "$1 is not $2"
}

in_host a start_cluster
size=$((16 * 1024 * 1024))
truncate -s $size "$on_disk/source"
start_proxy proxy file "$on_disk/source"
fill "$(uri proxy)" 50

echo "-- Ceph imports, and the guest is down"
major=$(rbd --version | sed -n 's/^ceph version \([0-9]*\).*/\1/p')
if ((major >= 20)); then
  in_host a rbd migration prepare --import-only --source-spec \
    "{\"type\":\"raw\",\"stream\":{\"type\":\"nbd\",\"uri\":\"$(uri proxy)\"}}" rbd/vm2
  must_hold rbd/vm2 "$on_disk/source"
  in_host a rbd migration execute --no-progress rbd/vm2
  must_hold rbd/vm2 "$on_disk/source"
  in_host a rbd migration commit --no-progress rbd/vm2
  must_hold rbd/vm2 "$on_disk/source"
else
  echo "Ceph $major does not import by NBD: not tried"
fi

echo "-- into Ceph, and the guest runs"
in_host a rbd create --size 16M rbd/vm1
in_host a start_rbd_server
start_guest guest "$(uri proxy)" --initial "$pattern"
must_migrate --verify "$(uri proxy)" "$(uri image)"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri proxy)" --initial "$pattern"
end_bg proxy
end_bg image
in_host a start_rbd_server
verify_final guest "$(uri image)" --initial "$pattern"
end_bg image
end_bg osd
end_bg mon
