#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Search the model of the rules (migrate.pml) with Spin: every schedule within
# the bounds of each line below, which must find nothing, and the same with one
# bug planted, which must find a counterexample.
#
#   check.sh [NAME...]   only these; --list: their names
#
#   BUILD=DIR   where it works (default: build), one run at a time
#   JOBS=N      searches at a time (default: the number of processors)
#   KEEP=1      leave the counterexamples: BUILD/model/NAME/trail
#
# The last line is "N passed, N failed, N skipped".

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
build=${BUILD:-../../build}/model
mkdir -p "$build"
build=$(cd "$build" && pwd)

# ---- what is searched --------------------------------------------------------

# NAME BOUND...: nothing may be found.  Together they have what the rules are
# about, each in as large a part as can be searched in a minute.
sound=(
  "copy WORKERS=2 WRITES=2"
  "relay WRITES=3"
  "relay-two-guests GUESTS=2 WRITES=2 SESSIONS=1"
  "relay-two-losses WRITES=2 LOSSES=2"
  "crash WRITES=2 CRASHES=1"
  "crash-twice WRITES=2 CRASHES=2 LOSSES=0"
  "mirror MIRROR=1 WRITES=2"
  "mirror-two-guests MIRROR=1 GUESTS=2 WRITES=2 SESSIONS=1 LOSSES=0"
  "move-again MOVES=3 SESSIONS=3 WRITES=2"
  "move-again-crash MOVES=2 SESSIONS=3 WRITES=2 CRASHES=1 LOSSES=0"
)

# BUG BOUND...: something must be.
bugs=(
  "R1"
  "R2"
  "R3"
  "R4 WORKERS=2 WRITES=2"
  "R6"
  "R6A"
  "R7"
  "R8"
  "R9"
  "R10"
  "R12_LATE MIRROR=1 GUESTS=2 WRITES=2 SESSIONS=1 LOSSES=0"
  "R12_LEASED MIRROR=1 WRITES=2"
  "R12_FLAG MIRROR=1 GUESTS=2 WRITES=2 SESSIONS=1 LOSSES=0"
  "R12_OVERLAP MIRROR=1 GUESTS=2 WRITES=2 SESSIONS=1 LOSSES=0"
  "R12_SLOW MIRROR=1 WRITES=2"
  "R13 GUESTS=2"
  "R13_KILL CRASHES=1 WRITES=2"
  "R13_OLD_ANSWER"
  "R14 CRASHES=1 WRITES=2"
  "R17_BEGIN MOVES=3 SESSIONS=3 WRITES=2 CRASHES=1 LOSSES=0"
  "R17_COPY"
  "R17_RELAY"
  "R17_RESTART CRASHES=1 WRITES=2"
)

# ---- one search --------------------------------------------------------------

# search NAME FLAG...: what Spin says is in NAME/output.
search ()
{
  local dir=$build/$1

  shift
  rm -rf "$dir"
  mkdir -p "$dir"
  cp migrate.pml "$dir"
  cd "$dir"
  spin -a "$@" migrate.pml > spin.log
  # -DSAFETY: no cycles are looked for.
  cc -w -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=4096 -DVECTORSZ=1024 -o pan pan.c
  ./pan -m200000 > output
}

# states NAME
states ()
{
  sed -n 's/^ *\([0-9]*\) states, stored.*/\1 states/p' "$build/$1/output"
}

# Spin's own words for a search that has come to its end.
is_complete ()
{
  ! grep -qE 'max search depth too small|out of memory|aborted|not completed' \
    "$build/$1/output"
}

# check sound|bug NAME BOUND...
check ()
{
  local kind=$1 name=$2 flags found

  shift 2
  flags=("${@/#/-D}")
  [ "$kind" = sound ] || flags+=("-DBUG_$name")
  if ! (search "$name" "${flags[@]}") 2> "$build/$name.log"; then
    echo "FAIL $name: it cannot be searched: $(tail -n 1 "$build/$name.log")"
    return
  fi
  found=$(sed -n 's/^pan:1: \(.*\) (at depth.*/\1/p' "$build/$name/output")
  if [ "$kind" = sound ] && [ -z "$found" ] && is_complete "$name"; then
    echo "PASS $name: nothing found in $(states "$name")"
  elif [ "$kind" = bug ] && [ -n "$found" ]; then
    echo "PASS $name: found"
  else
    echo "FAIL $name: ${found:-nothing found} in $(states "$name")"
    [ -z "$found" ] || KEEP=1
  fi
  if [ -n "${KEEP:-}" ] && [ -n "$found" ]; then
    (cd "$build/$name" && spin -t -p -g "${flags[@]}" migrate.pml > trail) || :
  else
    rm -rf "${build:?}/$name"
  fi
}

# ---- all of them -------------------------------------------------------------

lines=()
for line in "${sound[@]}"; do
  lines+=("sound $line")
done
for line in "${bugs[@]}"; do
  lines+=("bug $line")
done

# is_asked_for NAME [NAME...]
is_asked_for ()
{
  local name=$1

  shift
  [ $# -eq 0 ] || [[ " $* " == *" $name "* ]]
}

if [ "${1:-}" = --list ]; then
  for line in "${lines[@]}"; do
    read -r _ name _ <<< "$line"
    echo "$name"
  done
  exit
fi

if ! command -v spin > "$build/spin.path"; then
  echo "SKIP the model: there is no spin"
  echo "0 passed, 0 failed, 1 skipped"
  exit $((${SKIP_IS_FAILURE:-0} != 0))
fi

# A second run would remove what the first one is at, searches of a run that was
# killed included.
exec 9> "$build/lock"
if ! flock --nonblock 9; then
  echo "FAIL the model: another run works in $build"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi

output=$build/results
: > "$output"
running=0
for line in "${lines[@]}"; do
  read -r -a words <<< "$line"
  is_asked_for "${words[1]}" "$@" || continue
  if ((running == ${JOBS:-$(nproc)})); then
    wait -n
    running=$((running - 1))
  fi
  check "${words[@]}" | tee -a "$output" &
  running=$((running + 1))
done
wait
passed=$(grep -c '^PASS' "$output" || :)
failed=$(grep -c '^FAIL' "$output" || :)
echo "$passed passed, $failed failed, 0 skipped"
((failed == 0 && passed > 0))
