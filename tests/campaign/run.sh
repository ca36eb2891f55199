#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The campaign: rounds (round.sh) with seeds that follow each other, some at a time.
# Prints how often each fault met each phase, kills, stops, cuts and what went wrong.
#
#   BUILD=DIR
#   ROUNDS=N       so many (default 100), or
#   DURATION=TIME  begun for so long: 90s, 30m, 8h
#   ONLY=REGEX     only such cases: 'commit .*', '.* kill'
#   FILTER=PATH    of the filter: one that has a bug planted
#   SEED=N         that of the first round
#   JOBS=N         so many at a time (default: two for each processor)
#   UNTIL_FAILED=1 the first round that fails ends it
#
# The last lines are the figures.  A round that failed is told with its seed, the end
# of its log, and the directory that is kept; SEED=N round.sh repeats it alone.  Exit
# status 1 if any failed.

set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=$(cd "${BUILD:-$here/../../build}" && pwd) || exit 1
export BUILD

# As tests/run.sh: disks in memory.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] &&
    (($(df --output=avail /dev/shm | tail -n 1) >= 4 * 1024 * 1024)); then
  export TMPDIR=/dev/shm
fi

jobs=${JOBS:-$((2 * $(nproc)))}
seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
work=$(mktemp -d "${TMPDIR:-/tmp}/campaign.XXXXXX")
declare -A rounds=() # seeds, by process ids
# Rounds that are under way end in good order.
trap 'kill "${!rounds[@]}" 2> /dev/null; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
done_rounds=0 failed=0 skipped=0

# seconds DURATION
seconds ()
{
  case $1 in
  *h) echo $((${1%h} * 3600)) ;;
  *m) echo $((${1%m} * 60)) ;;
  *) echo "${1%s}" ;;
  esac
}

if [ -n "${DURATION:-}" ]; then
  limit=$(seconds "$DURATION") || exit 2
  most=${ROUNDS:-1000000000}
else
  limit=1000000000
  most=${ROUNDS:-100}
fi

start_round ()
{
  SEED=$seed timeout -k 10 "${ROUND_SECONDS:-400}" "$here/round.sh" \
    > "$work/$seed.log" 2>&1 &
  rounds[$!]=$seed
  seed=$((seed + 1))
}

# Of a lane whose sanitizer is in the way, or without root, some can not be.
end_round ()
{
  local pid status=0 log

  wait -n -p pid "${!rounds[@]}" || status=$?
  log=$work/${rounds[$pid]}.log
  grep -E '^(met|missed|kill|stop|cut|collapse)\b' "$log" >> "$work/counts"
  case $status in
  0) done_rounds=$((done_rounds + 1)) ;;
  77) skipped=$((skipped + 1)) ;;
  *)
    done_rounds=$((done_rounds + 1)) failed=$((failed + 1))
    echo "FAILED: round ${rounds[$pid]}, exit status $status:"
    tail -n 120 "$log"
    echo "repeat it: ${ONLY:+ONLY=$(printf %q "$ONLY") }SEED=${rounds[$pid]}" \
      "tests/campaign/round.sh" ;;
  esac
  rm "$log"
  unset "rounds[$pid]"
}

count ()
{
  grep -cE "^$1\\b" "$work/counts"
}

report ()
{
  echo "phase, victim, fault: met, and missed because the phase was over"
  awk '$1 == "met" || $1 == "missed" { k = $2 " " $3 " " $4; all[k]; n[$1, k]++ }
       END { for (k in all)
               printf "  %-28s %5d %5d\n", k, n["met", k], n["missed", k] }' \
    "$work/counts" | sort
  echo "finish, disks, policy: met"
  awk '$1 == "met" { n[$5 " " $6 " " $7]++ }
       END { for (k in n) printf "  %-28s %5d\n", k, n[k] }' "$work/counts" | sort
  echo "$(count met) faults met, $(count missed) missed:" \
    "$(count kill) kills, $(count stop) stops, $(count cut) cuts;" \
    "$(count collapse) servers ended by their own assertion"
  echo "$done_rounds rounds in $SECONDS s, $failed failed, $skipped skipped," \
    "seeds from $first to $((seed - 1))"
}

first=$seed
: > "$work/counts"
while :; do
  while ((${#rounds[@]} < jobs && seed - first < most && SECONDS < limit)) &&
      { ((failed == 0)) || [ -z "${UNTIL_FAILED:-}" ]; }; do
    start_round
  done
  ((${#rounds[@]} > 0)) || break
  end_round
done
report
((failed == 0))
