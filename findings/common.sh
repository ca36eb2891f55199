# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# What the findings share; sourced.  See README.md.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tmp=$(mktemp -d)
pids=()

tidy ()
{
  # All at once: some server waits for its clients, which are among them.
  kill ${pids[@]+"${pids[@]}"} 2> /dev/null || :
  wait
  rm -rf "$tmp"
}
trap tidy EXIT

# fetch PACKAGE=VERSION ...: unpack these below $tmp/root, installing nothing.
fetch ()
{
  mkdir -p "$tmp/packages" "$tmp/root"
  (cd "$tmp/packages" && apt-get download "$@" > apt.log 2>&1) || {
    echo "cannot get the packages that this was seen with: $*" >&2
    exit 2
  }
  for package in "$tmp"/packages/*.deb; do
    dpkg-deb -x "$package" "$tmp/root"
  done
  root=$tmp/root
  PATH=$root/usr/bin:$root/usr/sbin:$root/bin:$PATH
  LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu)
  export PATH LD_LIBRARY_PATH
}

# start COMMAND ...: in the background, stopped at the end.
start ()
{
  "$@" &
  pids+=($!)
}

# until_socket PATH: a server listens there.
until_socket ()
{
  for _ in $(seq 200); do
    [ ! -S "$1" ] || return 0
    sleep 0.05
  done
  echo "no server at $1" >&2
  exit 2
}

# python: standard input, with client.py at hand.
client ()
{
  PYTHONPATH=$here PYTHONDONTWRITEBYTECODE=1 python3 - "$@"
}

# seen EXPECTED ACTUAL: the finding holds, or the world has changed.
seen ()
{
  echo "seen: $2"
  [ "$1" = "$2" ] || {
    echo "CHANGED: this note says: $1"
    exit 1
  }
}
