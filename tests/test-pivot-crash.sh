#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# R10: the proxy is killed with SIGKILL at every step of recording a new owner,
# and started again.  Each time there is exactly one owner; it holds all that
# the guest was told is done; it stays the owner; and the migrator, which asks
# the new proxy what became of its commit, says the same (R11).
#
# The steps are the calls that touch the state file (tests/preload/crash.c).
# Power failures are the unit test's business (test-record).
#
# timeout: 240

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq

size=$((1024 * 1024 + 512))
# What the source and the destination hold, while nobody writes to them.
image=("$tmp/source" "$tmp/destination")
cases=0

proxy_is_gone ()
{
  has_ended "${pids[proxy]}"
}

# The migrator has ended or the proxy died under it.
is_decided ()
{
  proxy_is_gone || has_ended "${pids[migrator]}"
}

# start_crashing HOW STEP: the proxy, to be stopped there.
start_crashing ()
{
  rm -f "$tmp/steps"
  LD_PRELOAD=$BUILD/tests/crash-preload.so CRASH_DIR=$tmp/proxy.dir \
    CRASH_LOG=$tmp/steps CRASH_HOW=$1 CRASH_AT=$2 start_proxy proxy file \
    "$tmp/source"
}

# The proxy, whose time runs faster from when $tmp/hurry exists: after a kill it
# waits for writes that may still be on their way.
start_it ()
{
  LD_PRELOAD=$BUILD/tests/hurry-preload.so HURRY=5 HURRY_ARM=$tmp/hurry \
    start_proxy proxy file "$tmp/source"
}

# Forget the proxy that was killed, and start it again as usual.
start_again ()
{
  expect_status 137 wait_bg proxy
  start_it
}

# fresh_start RECORD: empty disks; the state file is "none" or an earlier one.
fresh_start ()
{
  rm -rf "$tmp/proxy.dir" "$tmp/hurry" "$tmp"/*.record "${image[@]}"
  truncate -s $size "${image[@]}"
  mkdir -m 700 "$tmp/proxy.dir"
  [ "$1" = none ] || cp "$tmp/$1.state" "$tmp/proxy.dir/state"
}

# serves NAME: whether the guest is served from this side.  Both are marked
# with their names first.
serves ()
{
  local side

  for side in source destination; do
    printf '%-16s' "$side" |
      dd of="$tmp/$side" conv=notrunc status=none
  done
  nbdcopy "$(uri proxy)" "$tmp/seen"
  [ "$(head -c 16 "$tmp/seen")" = "$(printf '%-16s' "$1")" ]
}

# The proxy is back.  Whoever OWNER says must hold everything, and still do so
# after another restart.
check_owner ()
{
  local owner=$1 side=$1

  touch "$tmp/hurry"
  if [ "$owner" = fenced ]; then
    expect_status 1 nbdcopy "$(uri proxy)" null: 2> "$tmp/fence.log"
    side=destination
    verify_final guest "$(uri destination)" > "$tmp/verdict"
  else
    verify_final guest "$(uri proxy)" > "$tmp/verdict"
    serves "$side" || fail "the owner is the $owner, and another side serves"
  fi
  end_bg proxy
  start_it
  [ "$(status .owner)" = "$owner" ] || fail "not the owner after a restart"
  [ "$owner" = fenced ] || serves "$side" ||
    fail "after another restart, another side serves"
}

# crash_migration FINISH OWNER RECORD HOW STEP: false if there is no such step.
# OWNER is what it becomes by this FINISH.
crash_migration ()
{
  local finish=$1 new=$2 owner status=0

  fresh_start "$3"
  start_crashing "$4" "$5"
  start_guest guest "$(uri proxy)" --cells 300 --depth 4 --rate 4M \
    --expect-disconnect --expect-shutdown
  start_migrate --max-pause=5s --finish="$finish" "$(uri proxy)" \
    "$(uri destination)"
  wait_for is_decided
  if ! proxy_is_gone; then
    wait_bg migrator || fail "the migrator failed, and nobody was killed"
    stop_it
    return 1
  fi
  wait_bg guest || fail "the guest ended with exit status $?"
  keep_half_written
  start_again
  wait_bg migrator || status=$?
  owner=$(status .owner)
  echo "$finish, record: $3, killed $4 step $5 ($(tail -n 1 "$tmp/steps")):" \
    "owner $owner, exit status $status"
  case $owner:$status in
  source:1 | "$new":0) ;;
  *) fail "exit status $status, but the owner is $owner" ;;
  esac
  check_owner "$owner"
  seen[$owner]=1
  end_bg proxy
}

# A state file of which only one slot has the new record is kept for later.
keep_half_written ()
{
  [ -e "$tmp/proxy.dir/state" ] || return 0
  [ "$(generation 0)" = "$(generation 65536)" ] ||
    cp "$tmp/proxy.dir/state" "$tmp/half.state"
}

# generation OFFSET: of a slot.
generation ()
{
  od -A n -t u8 -j $(($1 + 24)) -N 8 "$tmp/proxy.dir/state"
}

stop_it ()
{
  [ -z "${pids[guest]:-}" ] || { kill_bg guest TERM; wait_bg guest; }
  end_bg proxy
}

# crash_reopen HOW STEP: the same for `nbdmigrate reopen` after a handover.
crash_reopen ()
{
  local owner

  fresh_start fenced
  start_crashing "$1" "$2"
  if "$nbdmigrate" reopen "$(uri proxy)" owner=source 2> "$tmp/reopen.log"; then
    end_bg proxy
    return 1
  fi
  wait_for proxy_is_gone
  start_again
  owner=$(status .owner)
  echo "reopen, killed $1 step $2 ($(tail -n 1 "$tmp/steps")): owner $owner"
  case $owner in
  source) serves source || fail "the owner is the source, who does not serve" ;;
  fenced) expect_status 1 nbdcopy "$(uri proxy)" null: 2> "$tmp/fence.log" ;;
  *) fail "the owner is $owner" ;;
  esac
  seen[$owner]=1
  end_bg proxy
}

# crash_mending HOW STEP: the same for a start that finds a half-written file.
crash_mending ()
{
  local owner

  fresh_start half
  start_crashing "$1" "$2"
  if nbdinfo --size "$(uri proxy)" > "$tmp/info.out" 2>&1; then
    end_bg proxy
    return 1
  fi
  touch "$tmp/hurry"
  start_again
  owner=$(status .owner)
  echo "mending, killed $1 step $2 ($(tail -n 1 "$tmp/steps")): owner $owner"
  serves "$owner" || fail "the owner is the $owner, and another side serves"
  seen[$owner]=1
  end_bg proxy
}

# at_every_step N STEP COMMAND...: with HOW and STEP added, until there are no
# more.  So many owners must have been seen.
at_every_step ()
{
  local owners=$1 step=$2

  shift 2
  seen=()
  while "$@" before "$step"; do
    if [ "$(tail -n 1 "$tmp/steps")" = "$step write" ]; then
      "$@" torn "$step" || fail "no torn write at step $step"
      cases=$((cases + 1))
    fi
    cases=$((cases + 1))
    step=$((step + 1))
  done
  "$@" after $((step - 1)) || fail "not killed after the last step"
  cases=$((cases + 1))
  [ ${#seen[@]} -eq "$owners" ] || fail "the owners seen: ${!seen[*]}"
}
declare -A seen

truncate -s $size "$tmp/destination"
start_nbdkit destination file "$tmp/destination"

# Records for later: of a handover, and of its reopening.
fresh_start none
start_proxy proxy file "$tmp/source"
must_migrate --finish=handover "$(uri proxy)" "$(uri destination)"
cp "$tmp/proxy.dir/state" "$tmp/fenced.state"
"$nbdmigrate" reopen "$(uri proxy)"
cp "$tmp/proxy.dir/state" "$tmp/source.state"
end_bg proxy

# A migration writes the record twice: when it begins, which makes the file, and
# in the commit, which changes it.  The beginning is seen once only.
at_every_step 2 1 crash_migration pivot destination none
at_every_step 1 1 crash_mending
at_every_step 2 5 crash_migration handover fenced source
at_every_step 2 1 crash_reopen
echo "$cases kills"
