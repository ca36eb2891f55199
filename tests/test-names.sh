#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Servers that are named: a name with several addresses, of which the first does
# not answer, or refuses after a while; and a name server that does not answer,
# which holds up no signal.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
requires unshare mount

[ -e /proc/net/if_inet6 ] || skip "there is no IPv6"
add_host here
add_host there
start=2001:db8:77::1 dead=2001:db8:77::2 refusing=2001:db8:77::3
on_ip () { ip -n "$net-$1" "${@:2}"; }
on_ip here address add $start/64 dev eth0 nodad
on_ip there address add $refusing/64 dev eth0 nodad
# Nobody has this address: what is sent there vanishes.
on_ip here neigh add $dead lladdr 02:00:00:00:00:99 dev eth0 nud permanent

cat > "$tmp/hosts" <<END
$dead dead-first
${addresses[there]} dead-first
$refusing refuses-late
${addresses[there]} refuses-late
END
cat > "$tmp/resolv.conf" <<END
nameserver $dead
options timeout:30 attempts:5
END
echo 'hosts: files dns' > "$tmp/nsswitch.conf"

# Programs that are started here find these names.
cat > "$tmp/with-names" <<END
#!/bin/sh
for f in hosts resolv.conf nsswitch.conf; do
  [ -e /etc/\$f ] || touch /etc/\$f
  mount --bind "$tmp/\$f" /etc/\$f || exit 99
done
exec "\$@"
END
chmod +x "$tmp/with-names"
in_names ()
{
  local -a in=(nsenter --net="/run/netns/$net-here" unshare --mount
               "$tmp/with-names")

  "$@"
}

arrived ()
{
  local here there

  here=$(nbdcopy "$(uri proxy)" - | sha256sum)
  there=$(in_host there nbdcopy "$(uri destination)" - | sha256sum)
  [ "$here" = "$there" ] || fail "the copy differs"
}

at_port there 10809 start_nbdkit destination memory 4M
in_names start_proxy proxy memory 4M
fill "$(uri proxy)" 100
slow+=(--finish=detach)

echo "-- the first address does not answer"
in_names must_migrate "$(uri proxy)" nbd://dead-first
arrived

echo "-- nor does it for the proxy"
in_names must_migrate --finish=pivot "$(uri proxy)" nbd://dead-first
arrived
end_bg proxy

echo "-- it refuses after a while"
rm -rf "$tmp/proxy.dir"
in_names start_proxy proxy memory 4M
fill "$(uri proxy)" 100
on_ip here neigh replace $refusing lladdr 02:00:00:00:00:99 dev eth0 \
  nud permanent
in_names start_migrate "$(uri proxy)" nbd://refuses-late
on_ip here neigh del $refusing dev eth0
wait_bg migrator || fail "exit status $?"
arrived

# A question to the name server is on its way.
asks ()
{
  grep -q ':0035 ' "/proc/${pids[migrator]}/net/udp6"
}

echo "-- the name server does not answer"
for signal in INT TERM; do
  in_names start_migrate "$(uri proxy)" nbd://nobody.example
  wait_for asks
  kill_bg migrator $signal
  expect_status 3 wait_bg migrator
  grep -q "interrupted by SIG$signal" "$tmp/migrator.log"
done
