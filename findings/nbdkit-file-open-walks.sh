#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Each connection to nbdkit's file plugin costs a walk through the whole file, if
# that is on tmpfs and dense, though the client asks for nothing.
#
# Software:  nbdkit 1.32.5 (Debian 12), files on tmpfs
# Behaviour: while a connection negotiates, the plugin tries whether the file can
#            tell its holes by looking for the first one, with lseek (SEEK_HOLE) from
#            offset 0.  tmpfs finds it by passing all pages before it: about 15 ms
#            for a dense GiB, against microseconds for a file that begins with a hole.
#            It is done for clients as well that never ask for a block status.
# Why it surprises: opening an export looks like something that does not depend on
#            its size, and a client of many connections opens it as many times.
# What follows: a guest on the same processors waits while others connect.  Open
#            connections before the moment that counts, and ask for extents over
#            one of them only.

# shellcheck source=findings/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
fetch nbdkit=1.32.5-1 strace=6.1-0.1

lib=$(echo "$root"/usr/lib/*/nbdkit)
[ "$(stat -f -c %T /dev/shm)" = tmpfs ] || {
  echo "/dev/shm is no tmpfs" >&2
  exit 2
}
files=$(mktemp -d /dev/shm/finding-XXXXXX)
trap 'rm -r "$files"; tidy' EXIT
head -c 256M /dev/urandom > "$files/dense"
truncate -s 256M "$files/sparse"

# walked FILE: what one connection looks for, and how long in microseconds.
walked ()
{
  strace -f -q -T -e trace=lseek -o "$tmp/calls" \
    nbdkit -f -U "$tmp/socket" -P "$tmp/pid" \
    "$lib/plugins/nbdkit-file-plugin.so" "$files/$1" &
  pids+=($!)
  until_socket "$tmp/socket"
  echo 'import sys; from client import Client; Client(sys.argv[1])' |
    client "$tmp/socket"
  kill "$(cat "$tmp/pid")"
  wait "${pids[-1]}" || :
  unset "pids[-1]"
  rm -f "$tmp/socket" "$tmp/pid"
  sed -n 's/.*(\([0-9]*\), 0, SEEK_HOLE).*<0*\([0-9]*\)[.]\([0-9]*\)>$/\2\3/p' \
    "$tmp/calls"
}

dense=$(walked dense) sparse=$(walked sparse)
echo "one connection without metadata contexts: a search for the first hole," \
     "$((10#$dense)) us dense and $((10#$sparse)) us sparse"
result="no search, or more than one"
[[ $dense$sparse =~ ^[0-9]+$ ]] && result="once each"
((10#$dense <= 20 * (10#$sparse + 1))) || result+=", and far longer in the dense file"
seen "once each, and far longer in the dense file" "$result"
