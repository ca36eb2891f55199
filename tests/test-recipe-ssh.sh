#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/recipes.md, "Through ssh": a pivot to a server that is reached by a tunnel; the
# tunnel is lost and made again, and the guest notices nothing but that it waits.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
PATH=$PATH:/usr/sbin
requires nbdkit jq ssh sshd ssh-keygen
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
add_host a
add_host b

if [ ! -d /run/sshd ]; then
  mkdir /run/sshd
  at_end "rmdir /run/sshd"
fi
ssh-keygen -q -t ed25519 -N '' -f "$tmp/host-key"
ssh-keygen -q -t ed25519 -N '' -f "$tmp/key"
echo "${addresses[b]} $(cut -d ' ' -f 1,2 "$tmp/host-key.pub")" > "$tmp/known"
cat > "$tmp/sshd.conf" <<END
ListenAddress ${addresses[b]}
HostKey $tmp/host-key
AuthorizedKeysFile $tmp/key.pub
StrictModes no
PidFile none
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
END

# Its exit status when it is told to end is 255.
end_ssh ()
{
  [ -n "${pids[$1]:-}" ] || return 0
  kill_bg "$1" TERM || :
  wait_bg "$1" || :
}
at_end "end_ssh tunnel; end_ssh sshd"

# shellcheck disable=SC2329 # by in_host
start_sshd ()
{
  start_bg sshd "$(command -v sshd)" -D -e -f "$tmp/sshd.conf"
  wait_for grep -q 'listening on' "$tmp/sshd.log"
}

is_socket ()
{
  [ -S "$1" ]
}

# shellcheck disable=SC2329
start_tunnel ()
{
  rm -f "$tmp/tunnel.sock"
  start_bg tunnel ssh -N -F none -i "$tmp/key" -o BatchMode=yes \
    -o UserKnownHostsFile="$tmp/known" -o ExitOnForwardFailure=yes \
    -o StreamLocalBindUnlink=yes -o ServerAliveInterval=5 \
    -L "$tmp/tunnel.sock:$tmp/destination.sock" "root@${addresses[b]}"
  wait_for is_socket "$tmp/tunnel.sock"
}

start_nbdkit destination memory 8M
start_proxy proxy memory 8M
in_host b start_sshd
in_host a start_tunnel
start_guest guest "$(uri proxy)"
must_migrate --finish=pivot "$(uri proxy)" "$(uri tunnel)"
guest_goes_on guest

echo "-- the tunnel is lost, and made again"
end_ssh tunnel
wait_for has_status "$(uri proxy)" '.relay.up == false'
in_host a start_tunnel
guest_goes_on guest
stop_guest guest
verify_final guest "$(uri proxy)"
end_bg proxy
end_ssh tunnel
end_ssh sshd
verify_final guest "$(uri destination)"
