# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2154
#
# What a round of the campaign is made of: disks, servers, a guest and a migrator.
# Sourced after tests/functions.sh, disks.sh, late.sh and, where cables are pulled,
# net.sh; needs $disks, $finish, $policy, $links and $source_cache.
#
# Of disk i there are proxy$i and destination$i, and their images source$i.img and
# destination$i.img.  A destination has a volatile cache; a source may have one.

hurry=$tmp/hurry # while it is there time runs faster for proxies and migrator
hurry_by=8
outage_seconds=2 # 16 s for those: longer than a pause, and than a session may be silent

# pick VARIABLE WORD...: one of them.  (A subshell has random numbers of its own.)
pick ()
{
  local -n variable=$1
  local words=("${@:2}")

  variable=${words[RANDOM % ${#words[@]}]}
}

each_disk ()
{
  [ "$disks" -eq 1 ] && echo 0 || echo '0 1'
}

S ()
{
  uri "proxy$1"
}

D ()
{
  uri "destination$1"
}

# here COMMAND...: on the host of the proxies.
here ()
{
  if [ "$links" = cable ]; then in_host here "$@"; else "$@"; fi
}

# there DISK COMMAND...: on the host of its destination, and at its port.
there ()
{
  if [ "$links" = cable ]; then
    at_port there $((10809 + $1)) "${@:2}"
  else
    "${@:2}"
  fi
}

# ---- servers -----------------------------------------------------------------

start_destination ()
{
  mkdir -p "$tmp/destination$1.cue"
  cue "destination$1"
  there "$1" start_late "destination$1" volatile=1
}

# start_the_proxy DISK
start_the_proxy ()
{
  local plugin=(file "$tmp/source$1.img") slow=()

  if [ "$source_cache" = volatile ]; then
    mkdir -p "$tmp/source$1.cue"
    plugin=("$BUILD/tests/nbdkit-late-plugin.so" file="$tmp/source$1.img"
            cue="$tmp/source$1.cue" volatile=1)
  fi
  if [ "$policy" = mirror ]; then
    plugin=(--filter=rate "${plugin[@]}" "${outrun_source[@]}")
  fi
  LD_PRELOAD=${LD_PRELOAD:-}:$BUILD/tests/hurry-preload.so${crash:+:$crash} \
    HURRY=$hurry_by HURRY_ARM=$hurry here start_proxy "proxy$1" "${plugin[@]}" \
    migrate-reconnect=60s migrate-network-timeout=1s
}

# start_crashing DISK HOW STEP: something becomes of that step of its work on the
# state file, once $tmp/armed is there (tests/preload/crash.c).
start_crashing ()
{
  local crash=$BUILD/tests/crash-preload.so

  rm -f "$tmp/armed" "$tmp/go" "$tmp/steps"
  export CRASH_DIR=$tmp/proxy$1.dir CRASH_ARM=$tmp/armed CRASH_LOG=$tmp/steps \
    CRASH_HOW=$2 CRASH_AT=$3
  [ "$2" != hang ] || export CRASH_GO=$tmp/go
  start_the_proxy "$1"
  unset "${!CRASH_@}"
}

# ---- the guest ---------------------------------------------------------------

lost_cache=() # for the guest when it is resumed

all_uris ()
{
  local i

  for i in $(each_disk); do
    uri_options "$("$1" "$i")"
  done
}

# resume_guest: if there is none, one begins or goes on.
resume_guest ()
{
  local options what=(--resume "${lost_cache[@]}")

  [ -z "${pids[guest]:-}" ] || return 0
  mapfile -t options < <(all_uris S)
  [ -e "$tmp/guest.record" ] || what=(--seed "$seed" --initial "$pattern")
  start_bg guest "$referee" run "${options[@]}" --log "$tmp/guest.record" \
    "${what[@]}" "${guest[@]}"
  lost_cache=()
  wait_for is_file "$tmp/guest.record"
  count_acked
  wait_for goes_on_or_finds_none $((acked + 20))
  guest_lives || begin_guest_again
}

# The one before was killed, and so late its proxy ended of it (has_collapsed).  Whatever
# else ends a guest is a failure, as is what it found out.
begin_guest_again ()
{
  local i collapsed='' status=0

  for i in $(each_disk); do
    if tells_of_collapse "proxy$i"; then
      wait_for is_no_child "${pids[proxy$i]}"
      collapsed=1
    fi
  done
  [ -n "$collapsed" ] || fail "the guest ended early"
  wait_bg guest || status=$?
  [ $status -le 1 ] || fail "the guest ended with exit status $status"
  revive
  resume_guest
}

goes_on_or_finds_none ()
{
  local i

  count_acked
  ((acked >= $1)) && return
  ! guest_lives || return 1
  for i in $(each_disk); do
    ! tells_of_collapse "proxy$i" || return 0
  done
  fail "the guest ended early"
}

guest_lives ()
{
  [ -n "${pids[guest]:-}" ] && is_child "${pids[guest]}"
}

acked=0
count_acked ()
{
  acked=$(grep -c '^A' "$tmp/guest.record") || :
}

has_acked ()
{
  count_acked
  ((acked >= $1)) && return
  guest_lives || fail "the guest ended early"
  return 1
}

# goes_on N: so many requests more, whoever is down.
goes_on ()
{
  count_acked
  wait_for has_acked $((acked + $1))
}

# has_flushed_each LINE: after that line of its record, and been answered.
has_flushed_each ()
{
  local n

  n=$(tail -n "+$(($1 + 1))" "$tmp/guest.record" |
    awk '$1 == "S" && $4 == "f" { disk[$2] = $5 }
         $1 == "A" && $2 in disk { flushed[disk[$2]] }
         END { print length(flushed) }')
  ((n == disks)) && return
  guest_lives || fail "the guest ended early"
  return 1
}

everything_is_flushed ()
{
  wait_for has_flushed_each "$(wc -l < "$tmp/guest.record")"
}

# goes_on_or_moves N: the same, but the disk may have been cut over just before.
goes_on_or_moves ()
{
  count_acked
  wait_for has_acked_or_moved $((acked + $1))
}

has_acked_or_moved ()
{
  count_acked
  ((acked >= $1)) && return
  [ "$finish" != detach ] && any_disk '.owner != "source"' && return
  has_acked "$1"
}

# patiently COMMAND...: what waits for late writes need not do so for minutes.
patiently ()
{
  local status=0

  if $patient; then : > "$hurry"; fi
  "$@" || status=$?
  rm -f "$hurry"
  return $status
}

# for_a_while: a random number of the guest's requests, or until it or the migrator
# has ended.  In the commit it waits for us.
for_a_while ()
{
  local n with_migrator=false

  [ "$phase" != commit ] || return 0
  ! migrates || with_migrator=true
  count_acked
  n=$((acked + RANDOM % 60))
  while guest_lives && ((acked < n)); do
    [ $with_migrator = false ] || migrates || return 0
    sleep 0.01
    count_acked
  done
}

# It has nobody to talk to any more, or is to stop, and saw nothing wrong.
bury_guest ()
{
  [ -z "${pids[guest]:-}" ] || wait_bg guest ||
    fail "the guest saw something wrong: exit status $?"
}
