#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a destination admits is used, also by a pivot, whose relay needs
# connections of its own: qemu-nbd lets those that it does not admit wait
# without a word.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq qemu-nbd

size=$((8 * 1024 * 1024))
truncate -s $size "$tmp/source.img"
start_nbdkit filler file "$tmp/source.img"
fill "$(uri filler)" 50 > "$tmp/fill.out"
end_bg filler

# admitted N FINISH EXPECTED: by the destination; so many are for the copying,
# or "all" that are wanted.
admitted ()
{
  echo "-- $2, -e $1"
  truncate -s $size "$tmp/destination.img"
  start_proxy proxy file "$tmp/source.img"
  start_qemu_nbd destination -e "$1" -f raw "$tmp/destination.img"
  must_migrate --finish="$2" "$(uri proxy)" "$(uri destination)"
  sed 's/^/   /' "$tmp/migrate.log"
  if [ "$3" = all ]; then
    ! grep -qF "admits fewer than" "$tmp/migrate.log" || fail "too few for it"
  else
    grep -qE "the destination .* admits fewer than .*: going on with $3 \(" \
      "$tmp/migrate.log" || fail "it does not use $3 connections"
  fi
  end_bg proxy
  end_bg destination
  cmp "$tmp/source.img" "$tmp/destination.img"
  rm -r "$tmp/destination.img" "$tmp/proxy.dir"
}

admitted 2 detach 2
admitted 5 detach 5
admitted 2 pivot 1
admitted 8 pivot 4
admitted 16 pivot all
