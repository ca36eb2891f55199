#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# calls-fail.sh [SCENARIO...]: every call fails once, or something fails and goes on
# to do so.
#
# A scenario (calls-fail-run.sh) is run with no failure first, which tells what
# calls there are (tests/preload/calls-fail.c), then once for each of them with
# that one failing.  What failed in an earlier scenario is not repeated.
#
#   EVERY=N     of each place every call up to the N-th, not only the 1st, 2nd, 4th,
#               8th ...
#   FIRST=1     of each place only the first call
#   LASTING='ERROR...'  not once: from that call on all fail that want the same, until
#               the migration has ended or the guest needs it.  ENOSPC, EIO: the disk
#               with the state is full, or broken; EMFILE, ENOMEM, EAGAIN: descriptors,
#               memory, threads are lacking
#   SHORT=1     nothing fails, but nothing is read, written, sent or received whole
#   FROM=N STEP=N   only every STEP-th run, from the FROM-th on
#   SAMPLE=N    only so many runs of each scenario, chosen at random
#   CALLS=REGEX only calls with such names
#   SEED=N      for that, for which error it is, and for what guests do
#   REFERENCES=N    so many runs without a failure, as no two are quite alike (1)
#   JOBS=N      runs at a time (2)
#   OUT=DIR     what runs said that went wrong is kept there, and "results"
#
# In each run nobody crashes or hangs, nothing is lost, and the failure is said:
# what processes wrote to stderr, or answered on the control socket, names the
# error, or calls-fail.harmless says why nobody needs to know.

set -euo pipefail
shopt -s extglob
SRCDIR=${SRCDIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
BUILD=${BUILD:-$SRCDIR/build}
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
export SRCDIR BUILD SEED LC_ALL=C

# ---- one run ----------------------------------------------------------------

# functions FRAME,FRAME...: their names, innermost first, joined by " < ".
functions ()
{
  local frame object names=()

  for frame in ${1//,/ }; do
    object=$BUILD/${frame%+*}
    [[ $frame != *.so* ]] || object=${FILTER:-$object}
    mapfile -t -O ${#names[@]} names < <(
      addr2line -f -i -e "$object" "${frame#*+}" | sed -n 1~2p)
  done
  printf '%s' "${names[0]}"
  printf ' < %s' "${names[@]:1}"
}

# Why it need not be said: reason "CALL:ERRNO < FUNCTION < ..."
reason ()
{
  local pattern why

  while read -r pattern why || [ -n "$pattern" ]; do
    [[ $pattern != '#'* && -n $pattern ]] || continue
    [[ $1 =~ ^${pattern//</ < }( |$) ]] || continue
    echo "$why"
    return
  done < "$SRCDIR/tests/calls-fail.harmless"
  return 1
}

# all_harmless CALLS: why what failed later need not be said either.
all_harmless ()
{
  local call errno frames

  while read -r call errno frames; do
    reason "$call:$errno < $(functions "$frames")" > "$OUT/reason.$BASHPID" ||
      return
  done < <(awk '$1 == "more" && !told[$2]++ { print $4, $5, $6 }' "$1")
  rm -f "$OUT/reason.$BASHPID"
}

# one SCENARIO PLACE N [ERRNO]: prints a line, "VERDICT SCENARIO PLACE N ERRNO CALL
# FAILURES CHAIN".
one ()
{
  local dir status=0 call=- errno=0 frames='' text='' chain='' verdict failures

  dir=$(mktemp -d "$OUT/$1.XXXXXX")
  CALLS_OUT=$dir CALLS_FAIL=$2:$3 CALLS_ERRNO=$((16#$2 + SEED)) \
    CALLS_LASTING=${4:-} \
    timeout --kill-after=20 "$((${4:+100} + 90))" \
    "$SRCDIR/tests/calls-fail-run.sh" "$1" > "$dir/log" 2>&1 || status=$?
  read -r _ _ _ call errno frames text < <(grep '^fail' "$dir/calls") || :
  case $errno in
  11) text+='\|no thread' ;;
  12) text='[Mm]emory' ;;
  32 | 104) text+='\|closed the \|lost (' ;; # a connection
  esac
  if [ $status -ne 0 ]; then
    verdict=WRONG
  elif [ -z "$frames" ]; then
    verdict=missed
  elif grep -q -- "$text" "$dir/said"; then
    verdict=said
  elif reason "$call:$errno < ${chain:=$(functions "$frames")}" > "$dir/reason" &&
      all_harmless "$dir/calls"; then
    verdict=harmless
  else
    verdict=SILENT
  fi
  [ $verdict != WRONG ] || [ -z "$frames" ] || chain=$(functions "$frames")
  # The line that would have told it is what could not be written.
  if [ $verdict = WRONG ] && [[ $chain == 'write_some '* ]] &&
    grep -qE '^FAILED: (the disk is at .*, and the last line is|waited in vain for: is_ready_or_ended)' \
      "$dir/log"; then
    verdict=harmless
  fi
  failures=$(($(cat "$dir/failures" 2> /dev/null || echo 0)))
  echo "$verdict $1 $2 $3 $errno $call $failures < $chain"
  if [ $verdict = WRONG ] || [ $verdict = SILENT ]; then
    echo "$1 $2 $3${4:+, lasting}: $call < $chain: errno $errno" >> "$dir/log"
  else
    rm -r "$dir"
  fi
}

if [ "${1:-}" = --one ]; then
  one "${@:2}"
  exit
fi

# ---- all runs ---------------------------------------------------------------

found=0 # calls that may be made to fail
lasting= # the numbers of what lasts
for e in ${LASTING:-}; do
  case $e in
  EIO) lasting+=' 5' ;;
  EAGAIN) lasting+=' 11' ;;
  ENOMEM) lasting+=' 12' ;;
  EMFILE) lasting+=' 24' ;;
  ENOSPC) lasting+=' 28' ;;
  *)
    echo "LASTING=$e: ENOSPC, EIO, EMFILE, ENOMEM and EAGAIN can last" >&2
    exit 2 ;;
  esac
done
ours= # a directory that nobody needs if all goes well
[ -n "${OUT:-}" ] ||
  OUT=$(mktemp -d "${TMPDIR:-/tmp}/calls-fail.XXXXXX") ours=$OUT
mkdir -p "$OUT"
export OUT CALLS_EVERY=${EVERY:-0} CALLS_SHORT=${SHORT:-0}
scenarios=("$@")
[ $# -gt 0 ] || scenarios=(pivot detach handover mirror again)
echo "seed: $SEED (SEED=$SEED repeats this run)"
: > "$OUT/tried"
: > "$OUT/results"

# What calls are there that have not failed: "PLACE N", or "PLACE N ERRNO".
candidates ()
{
  cat "$OUT/$1".sound*/seen |
    awk -v s="$1" -v calls="^(${CALLS:-.*})\$" -v first="${FIRST:-0}" \
        -v lasting="$lasting" '
      function take (candidate) {
        if (!(candidate in tried))
          print candidate
        tried[candidate]
      }
      # The lack of memory is not of the kernel.
      function fits (error) {
        return error == 12 ? $5 == 12 : ("," $5 ",") ~ ("," error ",")
      }
      FILENAME != "-" { tried[$0]; next }
      $1 != s || $4 !~ calls || ($3 > 1 && first) { next }
      lasting == "" { take($2 " " $3); next }
      {
        n = split(lasting, errors, " ")
        for (i = 1; i <= n; i++)
          if (fits(errors[i]))
            take($2 " " $3 " " errors[i])
      }
    ' "$OUT/tried" -
}

# Those of them that are wanted.
choose ()
{
  if [ -n "${SAMPLE:-}" ]; then
    sort | shuf -n "$SAMPLE" --random-source=<(yes "$SEED")
  else
    awk -v from="${FROM:-1}" -v step="${STEP:-1}" \
      'NR >= from && (NR - from) % step == 0'
  fi
}

# run_sound SCENARIO DIR: with no call that fails.
run_sound ()
{
  mkdir -p "$2"
  CALLS_OUT=$2 timeout 90 "$SRCDIR/tests/calls-fail-run.sh" "$1" \
    > "$2/log" 2>&1 || {
    cat "$2/log" >&2
    echo "FAILED: $1, with no call that failed" >&2
    exit 1
  }
  sed "s/^seen/$1/" "$2/calls" > "$2/seen"
}

run_scenario ()
{
  local scenario=$1 i

  for ((i = 1; i <= ${REFERENCES:-1}; i++)); do
    run_sound "$scenario" "$OUT/$1.sound$i"
  done
  candidates "$scenario" > "$OUT/all"
  found=$((found + $(wc -l < "$OUT/all")))
  choose < "$OUT/all" > "$OUT/todo"
  cat "$OUT/todo" >> "$OUT/tried"
  sed "s/^/$scenario /" "$OUT/todo" |
    xargs -r -P "${JOBS:-2}" -L 1 "$0" --one >> "$OUT/results"
  summary "$scenario"
}

# What was made to fail, by call.
summary ()
{
  awk -v s="$1" '
    $2 != s { next }
    { n[$1]++; failures += $7 }
    $1 != "missed" { calls[$6]++; total++ }
    END {
      printf "%s: %d runs with %d failures, of which %d were said, %d are harmless, %d were silent, %d went wrong; %d calls did not come\n",
        s, total, failures, n["said"], n["harmless"], n["SILENT"], n["WRONG"], n["missed"]
      for (c in calls)
        print "  " calls[c], c | "sort -k1,1nr -k2 | paste -sd, | sed \"s/  *\\([0-9]\\)/ \\1/g\""
    }' "$OUT/results"
}

if [ "$CALLS_SHORT" != 0 ]; then
  for s in "${scenarios[@]}"; do
    run_sound "$s" "$OUT/$s.short"
    ! grep 'error: migrate' "$OUT/$s.short/said" | grep -v 'lost (\|are kept in' || {
      echo "FAILED: $s: that is no error" >&2
      exit 1
    }
    echo "$s: nothing fails where nothing is read, written or sent whole"
  done
  [ -z "$ours" ] || rm -r "$ours"
  exit 0
fi
for s in "${scenarios[@]}"; do
  run_scenario "$s"
done
# Having made nothing fail is no success.
if ((found == 0)); then
  echo "FAILED: there is no call to fail${CALLS:+ whose name is $CALLS}; see $OUT" >&2
  exit 1
fi
grep -E '^(WRONG|SILENT)' "$OUT/results" | sed 's/^/  /' | cut -c1-200 || {
  [ -z "$ours" ] || rm -r "$ours"
  exit 0
}
echo "FAILED: see $OUT" >&2
exit 1
