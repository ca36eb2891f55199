# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# Hosts of tests/net.sh that let in who has the key $tmp/key, as root.  Sourced
# after it.

sshd=$(PATH="$PATH:/usr/sbin:/sbin" command -v sshd) || skip "there is no sshd"
requires ssh ssh-keygen

ssh-keygen -q -t ed25519 -N '' -f "$tmp/key"
ssh-keygen -q -t ed25519 -N '' -f "$tmp/host-key"
cat > "$tmp/sshd_config" <<END
HostKey $tmp/host-key
AuthorizedKeysFile $tmp/key.pub
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
StrictModes no
Subsystem sftp internal-sftp
UseDNS no
UsePAM no
END
chmod 755 "$tmp"
mkdir -p /run/sshd # sshd begins with less, and wants it

# What a client has kept open (ControlPersist) outlives the server, and would never
# hear of its end: the network goes first.
end_sessions ()
{
  local -a left

  mapfile -t left < <(ip netns pids "$net-$1")
  [ ${#left[@]} -eq 0 ] || kill "${left[@]}" 2> /dev/null || :
}

# add_sshd HOST: and waits until it is there.
add_sshd ()
{
  at_end "end_sessions $1"
  in_host "$1" start_bg "sshd-$1" "$sshd" -D -e -f "$tmp/sshd_config" \
    -o "ListenAddress=${addresses[$1]}"
  echo "${addresses[$1]} $(cut -d ' ' -f 1,2 "$tmp/host-key.pub")" \
    >> "$tmp/known_hosts"
  wait_for grep -q 'Server listening' "$tmp/sshd-$1.log"
}
