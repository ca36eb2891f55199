#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# examples/kubernetes/, as docs/kubernetes.md says: the manifests are what the API's
# model takes, and what their containers run does what the page promises, with their
# volumes, in namespaces of their own.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq nbdinfo qemu-img unshare nsenter setpriv
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
/usr/bin/python3 -c 'import kubernetes, yaml' 2> /dev/null ||
  skip "there is no python3-kubernetes"
use_disk

pods=$SRCDIR/examples/kubernetes
user=1000

manifest ()
{
  /usr/bin/python3 "$SRCDIR/tests/manifest.py" "$@"
}

# words FILE PATH: of its StatefulSet's pod, in the array $words.
words ()
{
  mapfile -d '' words < <(manifest get "$pods/$1" StatefulSet "spec/template/spec/$2")
  [ ${#words[@]} -gt 0 ] || fail "$1 has no $2"
}

echo "-- the manifests"
manifest check "$pods"/*.yaml || fail "the API would not take that"
sed 's/replicas: 1/replica: 1/' "$pods/vm1.yaml" > "$tmp/unknown.yaml"
sed 's/replicas: 1/replicas: "1"/' "$pods/vm1.yaml" > "$tmp/type.yaml"
sed '/^ *image: .*nbdmigrate/d; /^ *- name: proxy/d; s/^\( *\)  restartPolicy/\1- restartPolicy/' \
  "$pods/vm1.yaml" > "$tmp/missing.yaml"
for wrong in unknown type missing; do
  expect_status 1 manifest check "$tmp/$wrong.yaml" > "$tmp/said"
  cat "$tmp/said"
done

# What the guest's QEMU is told of its disk.
words vm1.yaml containers/guest/command
blockdev=
for ((i = 0; i < ${#words[@]}; i++)); do
  [ "${words[i]}" != -blockdev ] || blockdev=${words[i + 1]}
done
[[ $blockdev == *,reconnect-delay=* ]] || fail "the guest does not wait for its disk"

# ---- the containers --------------------------------------------------------

# start_container FILE PATH VOLUMES: with what is below VOLUMES.
start_container ()
{
  local file=$1 path=$2 name=${2##*/} mount command options=()

  words "$file" "$path/volumeMounts"
  for mount in "${words[@]}"; do
    # As the kubelet does it, where there is an fsGroup.
    if [ ! -d "$3/${mount% *}" ]; then
      install -d -m 2775 -g $user "$3/${mount% *}"
    fi
    options+=(-v "$3/${mount% *}:${mount#* }")
  done
  words "$file" "$path/command"
  command=("${words[@]}")
  start_bg "$name" "$SRCDIR/tests/container.sh" $user -p "$nbdmigrate" -f "$filter" \
    -H "${addresses[b]} vm1-new" "${options[@]}" -- "${command[@]}"
  words "$file" "$path/startupProbe/exec/command"
  probe=("${words[@]}")
  wait_for probe_succeeds "$name"
}

# first_of NAME: the container's first process.
first_of ()
{
  local pid=${pids[$1]} children

  # There is no end of the line.
  read -r children _ < "/proc/$pid/task/$pid/children" || [ -n "$children" ]
  echo "$children"
} 2> /dev/null

# inside NAME COMMAND...: as kubectl exec does it.
inside ()
{
  local first

  first=$(first_of "$1") || return
  shift
  nsenter --target "$first" --mount --pid --net --root --wd \
    setpriv --reuid $user --regid $user --clear-groups \
    env -i PATH=/usr/local/bin:/usr/bin:/bin "$@" < /dev/null
}

probe_succeeds ()
{
  is_running "${pids[$1]}" || fail "the container $1 has ended"
  inside "$1" "${probe[@]}" > "$tmp/probe" 2>&1
}

# told WHAT: what the page has kubectl exec run in the proxy's container.
told ()
{
  sed -n "s/^    kubectl exec vm1-0 -c proxy -- \(nbdmigrate .*\)/\1/p" \
    "$SRCDIR/docs/kubernetes.md" | grep "$1"
}

# end_container NAME: as the kubelet does it.
end_container ()
{
  kill -TERM "$(first_of "$1")"
  wait_bg "$1" || fail "$1 ended with exit status $?"
}

disk=$on_disk/vm1/disk
socket=$on_disk/vm1/run/nbd.sock
uris[proxy]="nbd+unix:///?socket=$socket"
add_host a
add_host b
mkdir "$on_disk/vm1" "$on_disk/vm1-new"
install -d -m 2775 -g $user "$disk"
install -o $user -g $user -m 660 /dev/null "$disk/vm1.raw"
truncate -s 8M "$disk/vm1.raw"

echo "-- the pods"
in_host b start_container destination.yaml containers/server "$on_disk/vm1-new"
in_host a start_container vm1.yaml initContainers/proxy "$on_disk/vm1"
qemu-img info --image-opts "${blockdev//\/run\/vm\/nbd.sock/$socket}" ||
  fail "QEMU does not take $blockdev"
start_guest guest "$(uri proxy)"

echo "-- the disk is moved"
inside proxy bash -c "$(told nbd://vm1-new)" > "$tmp/migrate.log" 2>&1 ||
  fail "$(cat "$tmp/migrate.log")"
inside proxy bash -c "$(told status)" | tee "$tmp/status"
grep 'place .*nbd://vm1-new' "$tmp/status"
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri proxy)"

echo "-- the proxy is killed"
kill -KILL "$(first_of proxy)"
wait_bg proxy || :
[ -S "$socket" ]
in_host a start_container vm1.yaml initContainers/proxy "$on_disk/vm1"
verify_final guest "$(uri proxy)"
inside proxy bash -c "$(told status)" | grep 'place .*nbd://vm1-new'

echo "-- they are told to end"
end_container proxy
end_container server

echo "-- what a recursive fsGroup does"
policy=fsGroupChangePolicy
words vm1.yaml securityContext/$policy
[ "${words[0]}" = OnRootMismatch ]
chmod -R g+rwX "$disk"
words vm1.yaml initContainers/proxy/command
start_bg proxy "$SRCDIR/tests/container.sh" $user -f "$filter" \
  -v "$disk:/disk" -v "$on_disk/vm1/run:/run/vm" -- "${words[@]}"
! wait_bg proxy || fail "the proxy starts with state that its group may write"
grep 'its group can write to it' "$tmp/proxy.log"
chmod -R go-w "$disk/state"
in_host b start_container destination.yaml containers/server "$on_disk/vm1-new"
in_host a start_container vm1.yaml initContainers/proxy "$on_disk/vm1"
verify_final guest "$(uri proxy)"
end_container proxy
end_container server
