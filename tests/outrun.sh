# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2154
#
# A guest that writes faster than is copied, and a source that is read slowly, so
# that what a round leaves does not fit into the pause.  Sourced after
# tests/functions.sh.
#
# The destination is a fast one, and the pause so long that the longest wait for a
# mirrored write belongs to it: a busy machine is not to be taken for a slow
# destination.  Whatever it is, it may still end a mirror for a while: so what was
# mirrored and what was told is looked at, not what is so at some moment.

outrun_bytes=$((5 * 1024 * 1024))
outrun_source=(rate=64M burstiness=0.005) # of the rate filter; bits a second
outrun_guest=(--rate 6M --depth 4 --align 4096)
outrun_copy=(--rate=2M --background=0 --max-pause=300ms)

# mirrored_more_than N [PROXY-NAME]: writes.
mirrored_more_than ()
{
  has_status "$(uri "${2:-proxy}")" ".mirror.writes > $1"
}

# mirrored PROXY
mirrored ()
{
  status_of "$(uri "$1")" .mirror.writes
}

# mirror_is_off PROXY
mirror_is_off ()
{
  has_status "$(uri "$1")" '.mirror.state == "off"'
}

# has_told DECISION TEXT: by an event of the policy.
has_told ()
{
  event "map(select(.event == \"policy\" and .decision == \"$1\") | .reason)" |
    grep -q "$2"
}

must_have_told ()
{
  has_told "$@" || fail "$1 is not told with '$2': $(grep policy "$tmp/events")"
}

# had_progress EXPRESSION: of one report at least.
had_progress ()
{
  [ "$(event "map(select(.event == \"progress\")) | any($1)")" = true ]
}
