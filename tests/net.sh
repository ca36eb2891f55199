# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# Hosts with cables: network namespaces on a bridge, which has a namespace of
# its own, so that nothing of this machine's network is touched.  Sourced after
# tests/functions.sh; skips the test without root.  All is gone at its end.
#
#   add_host a; add_host b
#   at_port b 10809 start_nbdkit server memory 8M
#   in_host a must_migrate ... "$(uri server)"
#   pull b; plug b

requires ip nsenter
requires_root

net=nm$$ # names of namespaces begin with it
declare -gA addresses=()

# A failure here is not one of what is tested.
make_switch ()
{
  ip netns add "$net-switch" 2> "$tmp/net.log" ||
    skip "no network namespaces: $(cat "$tmp/net.log")"
  at_end "ip netns del $net-switch"
  ip -n "$net-switch" link add switch type bridge
  ip -n "$net-switch" link set switch up
}
make_switch

# add_host NAME: with an address of its own, in addresses[NAME].  A name has at
# most 13 letters.
add_host ()
{
  local host=$net-$1

  addresses[$1]=10.77.0.$((1 + ${#addresses[@]}))
  ip netns add "$host"
  at_end "ip netns del $host"
  ip -n "$net-switch" link add "p-$1" type veth peer name eth0 netns "$host"
  ip -n "$net-switch" link set "p-$1" master switch up
  ip -n "$host" address add "${addresses[$1]}/24" dev eth0
  ip -n "$host" link set lo up
  ip -n "$host" link set eth0 up
  wait_for is_plugged_in "$1"
}

# is_plugged_in HOST: both ends, and the port of the switch, are up some time after they
# were told to be, on a busy machine seconds; until then nothing passes.
is_plugged_in ()
{
  [[ $(ip -n "$net-switch" -d link show "p-$1") == *" state UP "*" state forwarding "* ]] &&
    [[ $(ip -n "$net-$1" link show eth0) == *" state UP "* ]]
}

# in_host HOST COMMAND...: programs that it starts run there, also if it is a
# function that calls start_bg or migrate.
in_host ()
{
  local -a in=(nsenter --net="/run/netns/$net-$1")

  shift
  if [ "$(type -t "$1")" = function ]; then
    "$@"
  else
    "${in[@]}" "$@"
  fi
}

# at_port HOST PORT COMMAND...: the same, and the nbdkit that it starts listens
# there.
# shellcheck disable=SC2034 # used by start_nbdkit
at_port ()
{
  local -a listen=(-i "${addresses[$1]}" -p "$2")
  local listen_uri=nbd://${addresses[$1]}:$2 host=$1

  shift 2
  in_host "$host" "$@"
}

# pull HOST, plug HOST: its cable, at the switch.
pull ()
{
  ip -n "$net-switch" link set "p-$1" down
}

plug ()
{
  ip -n "$net-switch" link set "p-$1" up
  wait_for is_plugged_in "$1"
}
