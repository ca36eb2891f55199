# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# What must be true in the end, after verdict_FINISH.  Sourced after migrator.sh.

uris_of ()
{
  local i

  for i in $(each_disk); do
    "$1" "$i"
  done
}

# The sources do not change any more once they are not the owners.
remember_sources ()
{
  [ "$finish:$source_cache" = pivot:file ] || return 0
  sha256sum "$tmp"/source?.img > "$tmp/sources"
}

verdict_of_destinations ()
{
  mapfile -t all < <(uris_of D)
  here verify_all_final guest "${all[@]}"
}

verdict_pivot ()
{
  stop_guest guest
  if [ "$source_cache" = file ]; then
    sha256sum --quiet -c "$tmp/sources" || fail "a source was written to after its pivot"
  fi
  mapfile -t all < <(uris_of S)
  verify_all_final guest "${all[@]}"
  for i in $(each_disk); do
    end_bg "proxy$i"
  done
  verdict_of_destinations
}

verdict_handover ()
{
  for i in $(each_disk); do
    [ "$(owner_of "$i")" = fenced ] || fail "disk $i is served"
  done
  verdict_of_destinations
}

# A copy of one instant; and with nothing written meanwhile both sides are equal.
verdict_detach ()
{
  mapfile -t all < <(uris_of D)
  here verify_one_instant guest "${all[@]}" || fail "no copy of one instant"
  stop_guest guest
  mapfile -t all < <(uris_of S)
  verify_all_final guest "${all[@]}"
  migrator+=(--incremental)
  migrate_again
  for i in $(each_disk); do
    cmp "$tmp/source$i.img" "$tmp/destination$i.img" || fail "disk $i: they differ"
  done
}
