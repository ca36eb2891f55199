#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# run.sh [TEST...]: run tests and count.  TEST is a path, the name of a unit or
# integration test (test-X), or "units" for all unit tests; without any, all.
#
#   BUILD=DIR             where make built (default: build)
#   JOBS=N                how many tests at a time (default: two for each
#                         processor, as most of them wait most of the time)
#   SKIP_IS_FAILURE=1     a skipped test counts as failed
#   TIMEOUT_FACTOR=N      multiplies every test's time limit (default: 2, as they
#                         share the machine; sanitizers need more)
#   TMPDIR=DIR            where the tests have their disks and state (default:
#                         memory, where there is enough of it)
#   SANITIZER=asan|tsan   load this runtime into nbdkit; a report of it, also
#                         of a program in the background, fails the test
#
# A test passes with exit status 0 and is skipped with 77.  Its limit is 60
# seconds, or N with "# timeout: N" in its first lines.  One line for each test
# on standard output, then "N passed, N failed, N skipped"; the log of a failed
# test goes to standard error.  Exit status 1 if any failed.

set -uo pipefail

# "wait -p" is of 5.1 (2020).
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 501)); then
  echo "run.sh: bash 5.1 or newer is needed, this is $BASH_VERSION" >&2
  exit 1
fi

SRCDIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=${BUILD:-$SRCDIR/build}
mkdir -p "$BUILD" || exit 1
BUILD=$(cd "$BUILD" && pwd)
export SRCDIR BUILD LC_ALL=C
cd "$SRCDIR" || exit 1

# Tests sync small files all the time, and on a disk that others write much to
# each sync may take a minute, which is not what they are about.  Some run scripts
# that they write, which a container's /dev/shm may not allow.
room_kib=$((4 * 1024 * 1024))
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] &&
    ! grep -qE '^[^ ]+ /dev/shm [^ ]+ ([^ ]+,)?noexec[, ]' /proc/mounts &&
    (($(df --output=avail /dev/shm | tail -n 1) >= room_kib)); then
  export TMPDIR=/dev/shm
fi

jobs=${JOBS:-$((2 * $(nproc)))}
logs=$BUILD/tests/logs
running=()  # names, by process ids
passed=0 failed=0 skipped=0
test_seconds=0 cpu_ms=0

all_units ()
{
  local t

  for t in "$SRCDIR"/tests/unit/test-*.c; do
    [ ! -e "$t" ] || echo "$BUILD/tests/unit/$(basename "$t" .c)"
  done
}

all_tests ()
{
  local t

  all_units
  for t in "$SRCDIR"/tests/test-*.sh; do
    [ ! -e "$t" ] || echo "$t"
  done
}

# The path of a test given by its name.
find_test ()
{
  local path

  for path in "$1" "tests/$1.sh" "tests/$1" "$BUILD/tests/unit/$1"; do
    if [ -f "$path" ] && [ -x "$path" ]; then
      echo "$path"
      return
    fi
  done
  echo "$1"
}

name_of ()
{
  basename "$1" .sh
}

limit_of ()
{
  local limit='' source=$1

  [[ $source == *.sh ]] || source=tests/unit/$(name_of "$1").c
  if [ -r "$source" ]; then
    limit=$(sed -n '1,40s/^[#/ *]*timeout: *\([0-9][0-9]*\).*/\1/p' "$source" |
              head -n 1)
  fi
  echo $((${limit:-60} * ${TIMEOUT_FACTOR:-2}))
}

# longest_first PATH...: those first that may take long, so that in the end nobody
# waits for one of them alone.
longest_first ()
{
  local path

  for path; do
    echo "$(limit_of "$path") $path"
  done | sort -s -k 1,1nr | cut -d ' ' -f 2-
}

# A sanitizer's runtime has to be in nbdkit from the start, or the filter built
# with it cannot be loaded: a wrapper in PATH sees to that, for every test.
# Reports go to files, so that none is lost in some server's log.
#
# The address sanitizer begins with the first malloc.  That must not be the one
# in newlocale(3), called by a constructor of p11-kit (GnuTLS): it asks for a
# translation then, which spoils the lock that newlocale holds, and nbdkit
# hangs when it ends.  So first.so comes before all constructors.  It also takes
# the runtime out of the environment of what nbdkit starts.
set_up_sanitizer ()
{
  local bin=$BUILD/tests/bin lib common nbdkit

  lib=$(gcc -print-file-name="lib$SANITIZER.so")
  nbdkit=$(command -v nbdkit) || return
  mkdir -p "$bin"
  gcc -shared -fPIC -Wl,-z,initfirst -o "$bin/first.so" -x c - <<'END' || return
#include <stdlib.h>
#include <string.h>
static void __attribute__ ((constructor))
first (int argc, char *argv[], char *envp[])
{
  free (malloc (1));
  for (; *envp != NULL; envp++)
    if (strncmp (*envp, "LD_PRELOAD=", 11) == 0)
      (*envp)[11] = '\0';
}
END
  cat > "$bin/nbdkit" <<END
#!/bin/sh
# nbdkit and its plugins leak a little when they end.  What a test has loaded
# stays, after the runtime, which has to be the first.
ASAN_OPTIONS="\$ASAN_OPTIONS:detect_leaks=0" \\
LD_PRELOAD="$lib $bin/first.so \${LD_PRELOAD:-}" exec $nbdkit "\$@"
END
  chmod +x "$bin/nbdkit"
  export PATH="$bin:$PATH"

  common="exitcode=99:print_summary=1:log_path=@LOG@"
  sanitizer_env=(
    "ASAN_OPTIONS=$common"
    "UBSAN_OPTIONS=$common:print_stacktrace=1"
    # nbdkit is not instrumented: what it does alone is none of our business.
    "TSAN_OPTIONS=$common:ignore_noninstrumented_modules=1:second_deadlock_stack=1"
  )
}
sanitizer_env=()

# Run one test; its result goes to files beside its log.
run_test ()
{
  local name=$2 log=$logs/$2.log limit status began user system
  local pid=

  limit=$(limit_of "$1")
  began=$SECONDS
  # Passed on: timeout(1) ends the whole process group of the test.
  trap '[ -z "$pid" ] || kill -TERM "$pid"' TERM
  # The shell ignores SIGINT in what it starts in the background; tests do not.
  env --default-signal=INT,QUIT \
    "${sanitizer_env[@]//@LOG@/$logs/$name.sanitizer}" \
    timeout --kill-after=20 "$limit" "$1" < /dev/null > "$log" 2>&1 &
  pid=$!
  while :; do
    wait "$pid"
    status=$?
    kill -0 "$pid" 2> /dev/null || break
  done
  if ((SECONDS - began >= limit)); then
    echo "run.sh: not done after $limit s: ended" >> "$log"
  fi
  # Such a file may hold harmless notes, too, as that memory ran out.
  if cat "$logs/$name.sanitizer"* >> "$log" 2> /dev/null &&
      grep -qE 'SUMMARY:|runtime error:' "$logs/$name.sanitizer"*; then
    [ $status -ne 0 ] || status=99
  fi
  # What it has used of a processor: a test that takes long and uses little waits.
  # In a process of its own "times" would be that one's.
  times > "$logs/$name.times"
  { read -r _; read -r user system; } < "$logs/$name.times"
  echo "$status $((SECONDS - began)) $(($(to_ms "$user") + $(to_ms "$system")))" \
    > "$logs/$name.result"
}

# to_ms TIME: 1m2.345s, as "times" has it, in milliseconds.
to_ms ()
{
  local digits

  digits=${1#*m} digits=${digits//[.s]/}
  echo $((${1%m*} * 60000 + 10#$digits))
}

# in_seconds MS: with one digit.
in_seconds ()
{
  echo "$(($1 / 1000)).$(($1 % 1000 / 100))"
}

# Count a test that has ended and say so.
report ()
{
  local name=$1 log=$logs/$1.log status=1 seconds=0 cpu=0 why took

  [ ! -r "$logs/$name.result" ] ||
    read -r status seconds cpu < "$logs/$name.result"
  test_seconds=$((test_seconds + seconds)) cpu_ms=$((cpu_ms + cpu))
  took="$seconds s, CPU $(in_seconds "$cpu") s"
  case $status in
  0)
    passed=$((passed + 1))
    echo "PASS $name ($took)"
    return
    ;;
  77)
    why=$(grep -m 1 '^SKIP' "$log" || echo "SKIP: no reason given")
    if [ -z "${SKIP_IS_FAILURE:-}" ]; then
      skipped=$((skipped + 1))
      echo "SKIP $name ($took)${why#SKIP}"
      return
    fi
    echo "run.sh: skipped, and that counts as a failure" >> "$log"
    ;;
  esac
  failed=$((failed + 1))
  echo "FAIL $name ($took)"
  {
    echo "---- $name: exit status $status, the end of its log:"
    tail -n 200 "$log"
    echo "----"
  } >&2
}

stop ()
{
  trap - INT TERM
  [ ${#running[@]} -eq 0 ] || kill -TERM "${!running[@]}" 2> /dev/null
  wait
  echo "run.sh: interrupted after $passed passed, $failed failed," \
       "$skipped skipped" >&2
  exit 1
}

tests=()
for name; do
  if [ "$name" = units ]; then
    mapfile -t -O "${#tests[@]}" tests < <(all_units)
  else
    tests+=("$name")
  fi
done
[ $# -gt 0 ] || mapfile -t tests < <(all_tests)
for i in "${!tests[@]}"; do
  tests[i]=$(find_test "${tests[i]}")
done
mapfile -t tests < <(longest_first "${tests[@]}")

rm -rf "$logs"
mkdir -p "$logs" || exit 1
if [ -n "${SANITIZER:-}" ] && ! set_up_sanitizer; then
  echo "run.sh: cannot set up the $SANITIZER runtime" >&2
  exit 1
fi
trap stop INT TERM

# Started in that order, at most $jobs at a time, and reported as they end.
next=0
while ((next < ${#tests[@]} || ${#running[@]} > 0)); do
  while ((next < ${#tests[@]} && ${#running[@]} < jobs)); do
    run_test "${tests[next]}" "$(name_of "${tests[next]}")" &
    running[$!]=$(name_of "${tests[next]}")
    next=$((next + 1))
  done
  wait -n -p ended "${!running[@]}"
  report "${running[ended]}"
  unset "running[ended]"
done

# Having run nothing is no success.
if ((passed + failed + skipped == 0)); then
  echo "run.sh: there are no tests" >&2
  failed=1
fi
echo "the tests took $test_seconds s and CPU $(in_seconds "$cpu_ms") s," \
     "in $SECONDS s, $jobs at a time"
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
