#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# releases.sh SUITE [TEST...]: build and test with what another release of
# Debian has (trixie, sid, ...): tests/check.sh in a chroot of that release, as
# root, without a warning of the compiler.  TEST is what tests/check.sh takes;
# without any, all tests.
#
#   CHROOTS=DIR       where the chroots are kept between runs (default:
#                     /var/tmp/nbdmigrate-chroots); rm -r DIR/SUITE begins anew.
#                     "memory": nowhere, which is quick for a single run, if there
#                     are some GiB of it
#   PACKAGES='LIST...'    of tests/packages.sh (default: build tests)
#   SKIP_IS_FAILURE=1     also if the mirror cannot be reached
#   TABLE=FILE        a row is added to this table, which docs/releases.md has of
#                     all tests: versions, what passed, the date
#
# and the variables of tests/run.sh.  The chroot is made by debootstrap from the
# mirror that apt uses here.  The tests run in namespaces of their own (mounts,
# processes): whatever was mounted is gone at the end, and a process that a test
# has left behind is named and is a failure.  The last line is that of
# tests/run.sh; exit status 77 if the mirror cannot be reached.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=tests/packages.sh
source tests/packages.sh

inside=/nbdmigrate # the sources there
memory_kib=$((6 * 1024 * 1024)) # to have a chroot in it, and its tests

fail ()
{
  echo "releases.sh: $1" >&2
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
}

cannot_reach ()
{
  [ -z "${SKIP_IS_FAILURE:-}" ] || fail "$1"
  echo "SKIP: $1"
  echo "0 passed, 0 failed, 1 skipped"
  exit 77
}

# mirror: where apt gets this system's own packages.
mirror ()
{
  local codename

  # shellcheck source=/dev/null
  codename=$(source /etc/os-release && echo "${VERSION_CODENAME:-}")
  # shellcheck disable=SC2016 # apt's own variables
  apt-get indextargets --no-release-info \
    --format '$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)' |
    awk -v codename="$codename" '
      $1 == "Packages" && $2 == "main" &&
      $3 ~ "^(" codename "|stable|testing|unstable|sid)$" {
        print $4
        exit
      }'
}

# ---- the chroot ------------------------------------------------------------

# What makes installing quick, and what this system's apt is told of the way out.
configure_apt ()
{
  local etc=$1/etc

  echo force-unsafe-io > "$etc/dpkg/dpkg.cfg.d/nbdmigrate"
  printf 'path-exclude %s\n' '/usr/share/doc/*' '/usr/share/man/*' \
    '/usr/share/locale/*' >> "$etc/dpkg/dpkg.cfg.d/nbdmigrate"
  {
    # The newest may be a snapshot that nobody has renewed.
    echo 'Acquire::Check-Valid-Until "false";'
    echo 'Acquire::Languages "none";'
    apt-config dump | grep -i '^Acquire::[a-z]*::proxy' || :
  } > "$etc/apt/apt.conf.d/nbdmigrate"
  printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d"
  chmod +x "$1/usr/sbin/policy-rc.d"
}

# make_chroot SUITE DIR: whole or not at all.
make_chroot ()
{
  local from new=$2.new log=$2.log

  command -v debootstrap > /dev/null || apt_install debootstrap >&2 ||
    fail "there is no debootstrap"
  from=$(mirror)
  [ -n "$from" ] || cannot_reach "apt names no mirror of Debian"
  echo "releases.sh: making a chroot of $1" >&2
  rm -rf "$new"
  debootstrap --variant=minbase "$1" "$new" "$from" > "$log" 2>&1 || {
    tail -n 5 "$log" >&2
    cannot_reach "debootstrap could not make a chroot of $1"
  }
  configure_apt "$new"
  rm -rf "$2"
  mv "$new" "$2"
}

# keep_times OLD NEW: files that are as they were in the copy before keep its times:
# all others are new, whatever their times are here, for what was built of it.
keep_times ()
{
  local same

  mapfile -t same < <(cd "$2" && diff -rqs --exclude=build . "$1" |
    sed -n 's/^Files \(.*\) and .* are identical$/\1/p')
  [ ${#same[@]} -eq 0 ] ||
    (cd "$1" &&
       cp --attributes-only --preserve=timestamps --parents "${same[@]}" "$2")
}

# The sources as they are here, with what was built there before.
copy_sources ()
{
  local to=$1$inside new=$1$inside.new

  rm -rf "$new"
  mkdir -p "$to" "$new"
  tar -c --exclude=./build --exclude=./.git . |
    tar -x -m -C "$new" --no-same-owner
  keep_times "$to" "$new"
  [ ! -d "$to/build" ] || mv "$to/build" "$new"
  rm -rf "$to"
  mv "$new" "$to"
}

# ---- in the namespaces -----------------------------------------------------

# enter DIR: make it the root.  Not with chroot(2), as it has to be a mount point: tests
# make mount namespaces of their own.
enter ()
{
  cd "$1"
  mount --bind . .
  cd "$1"
  mount --rbind /dev dev
  mount --bind /sys sys
  mount -t tmpfs tmpfs dev/shm
  mount -t tmpfs tmpfs run
  cp --remove-destination /etc/resolv.conf /etc/hosts etc/
  mount -t proc proc proc
  mkdir -p mnt
  pivot_root . mnt
  cd /
  umount -l mnt
}

# What lives besides this shell and the process that writes its output, in $left.
find_left ()
{
  local dir words

  left=()
  for dir in /proc/[0-9]*; do
    [[ $dir != /proc/1 && $dir != "/proc/$writer" ]] || continue
    words=()
    mapfile -t -d '' words < "$dir/cmdline" || continue
    [ ${#words[@]} -eq 0 ] || left+=("${dir#/proc/}: ${words[*]}")
  done 2> /dev/null
}

# Some that were told to end may still be at it.
nothing_left ()
{
  local end=$((SECONDS + 10))

  find_left
  while [ ${#left[@]} -gt 0 ] && ((SECONDS < end)); do
    sleep 0.1
    find_left
  done
  [ ${#left[@]} -eq 0 ]
}

check_inside ()
{
  local line=$1 left

  ! nothing_left || return 0
  echo "FAIL left-behind (0 s)"
  echo "releases.sh: the tests have left processes behind:" >&2
  printf '  %s\n' "${left[@]}" >&2
  [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]] ||
    return 1
  echo "${BASH_REMATCH[1]} passed, $((BASH_REMATCH[2] + 1)) failed," \
       "${BASH_REMATCH[3]} skipped"
  return 1
}

# add_row SUITE COMMAND COUNTS: to build/row, what was tested here.
add_row ()
{
  local suite=$1 command=$2 counts=$3 gcc qemu bash

  [[ $counts =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]] ||
    return 0
  gcc=$(gcc -dumpfullversion)
  qemu=$(qemu-nbd --version | sed -n '1s/^qemu-nbd \([0-9.]*\).*/\1/p')
  # This shell is the one outside.
  # shellcheck disable=SC2016 # of that shell
  bash=$(bash -c 'echo "${BASH_VERSINFO[0]}.${BASH_VERSINFO[1]}"')
  printf '| %s ' "$suite" "$(pkg-config --modversion nbdkit)" \
    "$(pkg-config --modversion libnbd)" "$qemu" "$gcc" \
    "$bash" "${BASH_REMATCH[@]:1}" \
    "$(date -u +%F)" "\`$command\`" > build/row
  echo '|' >> build/row
}

# The first process of its namespace.
run_inside ()
{
  local root=$1 suite=$2 status=0 output=/run/nbdmigrate-output end

  shift 2
  enter "$root"
  cd "$inside"
  exec {out}> >(tee "$output")
  writer=$!
  tests/check.sh "$@" < /dev/null >&"$out" {out}>&- || status=$?
  exec {out}>&-
  for ((end = SECONDS + 10; SECONDS < end; )); do
    kill -0 "$writer" 2> /dev/null || break
    sleep 0.05
  done
  check_inside "$(tail -n 1 "$output")" > /run/left || status=1
  cat /run/left
  add_row "$suite" "tests/releases.sh $suite${*:+ $*}" \
    "$(cat "$output" /run/left | tail -n 1)" || :
  return $status
}

if [ "${1:-}" = --inside ]; then
  shift
  run_inside "$@"
  exit
fi

# ---- outside ---------------------------------------------------------------

[ $# -gt 0 ] || {
  sed -n '/^# releases/,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}
suite=$1
shift
[[ $suite =~ ^[a-z]+$ ]] || fail "no name of a release: $suite"
[ "$(id -u)" -eq 0 ] || fail "this needs root"

# In a mount namespace of its own.
in_memory ()
{
  local dir status=0 available

  dir=$(mktemp -d)
  available=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo)
  if ((available < memory_kib)); then
    CHROOTS=$dir tests/releases.sh "$suite" "$@" || status=$?
    rm -rf "$dir"
    exit $status
  fi
  # shellcheck disable=SC2016 # the arguments are those of that shell
  unshare --mount --propagation private sh -e -c '
    mount -t tmpfs -o size=75% tmpfs "$1"
    export CHROOTS="$1"
    shift
    exec tests/releases.sh "$@"' sh "$dir" "$suite" "$@" || status=$?
  rmdir "$dir"
  exit $status
}
[ "${CHROOTS:-}" != memory ] || in_memory "$@"

chroots=${CHROOTS:-/var/tmp/nbdmigrate-chroots}
mkdir -p "$chroots"
chroots=$(cd "$chroots" && pwd)
root=$chroots/$suite

# One at a time in each.
exec {lock}> "$root.lock"
flock "$lock"

[ -d "$root" ] || make_chroot "$suite" "$root"
copy_sources "$root"
row=$root$inside/build/row
rm -f "$row" # an earlier run's, if this one does not come that far
# Whoever is left behind has not inherited the lock.  With unshare(1) all end.
unshare --mount --propagation private --pid --fork --kill-child \
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C WERROR=1 \
  ${PACKAGES:+"PACKAGES=$PACKAGES"} ${JOBS:+"JOBS=$JOBS"} \
  ${SKIP_IS_FAILURE:+"SKIP_IS_FAILURE=$SKIP_IS_FAILURE"} \
  ${TIMEOUT_FACTOR:+"TIMEOUT_FACTOR=$TIMEOUT_FACTOR"} ${SEED:+"SEED=$SEED"} \
  bash tests/releases.sh --inside "$root" "$suite" "$@" {lock}>&- &
child=$!
trap 'kill "$child"' INT TERM
status=0
wait "$child" || status=$?
if [ -n "${TABLE:-}" ] && [ -e "$row" ]; then
  [ -s "$TABLE" ] || cat > "$TABLE" << 'END'
| Debian | nbdkit | libnbd | QEMU | gcc | bash | passed | failed | skipped | on | command |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
END
  cat "$row" >> "$TABLE"
fi
exit $status
