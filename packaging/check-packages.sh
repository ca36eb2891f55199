#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The Debian packages are built, are what lintian wants, and in a new system with
# nothing else (debootstrap, from the mirror that apt uses) they are installed, move a
# disk, and are removed without a trace.  As root; some minutes.
#
#   make check-packages     KEEP=DIR keeps the packages there
#
# Prints SKIP and ends with 77 where that cannot be done.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip ()
{
  echo "SKIP: $*"
  exit 77
}

fail ()
{
  echo "FAILED: $*" >&2
  exit 1
}

PATH="$PATH:/usr/sbin:/sbin"
[ "$(id -u)" -eq 0 ] || skip "this needs root"
for command in dpkg-buildpackage dh lintian debootstrap unshare; do
  command -v "$command" > /dev/null || skip "there is no $command"
done
unshare --mount --pid --fork true 2> /dev/null || skip "namespaces cannot be made"

# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' \
           'Identifier: Packages' |
           sed -n "s/^$release main //p" | head -n 1)
[ -n "$mirror" ] || skip "apt has no mirror of '$release'"

work=$(mktemp -d /var/tmp/nbdmigrate-packages.XXXXXX)
system=$work/system
trap 'rm -rf "$work"' EXIT

# run COMMAND...: in the new system, with mounts and processes of its own, which are
# gone when it ends.
run ()
{
  # shellcheck disable=SC2016 # of the inner shell
  unshare --mount --pid --fork --kill-child --propagation=private \
    sh -c 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" &&
           exec chroot "$0" "$@"' \
    "$system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive HOME=/root "${proxies[@]}" "$@" < /dev/null
}
mapfile -t proxies < <(env | grep -iE '^(http|https|no)_proxy=' || :)

apt ()
{
  run apt-get -q -o Dpkg::Use-Pty=0 "$@"
}

# What is in the system, but for what apt and dpkg know.
files ()
{
  (cd "$system" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./tmp \
     -o -path ./run -o -path ./var/log -o -path ./var/lib/dpkg -o -path ./var/lib/apt \
     -o -path ./var/cache \) -prune -o -print | sort)
}

echo "-- building"
mkdir "$work/source"
{ git -c safe.directory='*' ls-files --cached --others --exclude-standard ||
    find . -path ./build -prune -o -type f -print; } |
  tar -cf - -T - | tar -C "$work/source" -xf -
(cd "$work/source" && dpkg-buildpackage -us -uc -b) > "$work/build.log" 2>&1 || {
  tail -n 50 "$work/build.log" >&2
  fail "the packages cannot be built"
}
rm -rf "$work/source"
ls "$work"/*.deb
[ -z "${KEEP:-}" ] || cp "$work"/*.deb "$KEEP/"

echo "-- lintian"
lintian --allow-root --info --display-info --fail-on error,warning,info \
  "$work"/*.changes || fail "lintian is not content"

echo "-- the spec file"
if command -v rpmspec > /dev/null; then
  rpmspec -P packaging/nbdmigrate.spec > "$work/spec" || fail "the spec file is wrong"
  rpmspec -q --requires packaging/nbdmigrate.spec | grep -E '^nbdkit-server.* = [0-9]' ||
    fail "the filter's package does not require an nbdkit of one version"
else
  echo "there is no rpmspec"
fi
if command -v rpmlint > /dev/null; then
  rpmlint packaging/nbdmigrate.spec | tee "$work/rpmlint" | tail -n 5
  grep -q ' 0 errors' "$work/rpmlint" || fail "rpmlint finds errors"
fi

echo "-- a system to install them in"
debootstrap --variant=minbase "$release" "$system" "$mirror" \
  > "$work/debootstrap.log" 2>&1 || {
  tail -n 5 "$work/debootstrap.log"
  skip "debootstrap cannot make a system"
}
cp /etc/resolv.conf "$system/etc/" 2> /dev/null || :
cp -r /etc/apt/. "$system/etc/apt/"
apt update > "$work/apt.log" 2>&1 || skip "apt does not work there"
mkdir "$system/tmp/packages"
cp "$work"/nbd*.deb "$system/tmp/packages/"
rm "$system"/tmp/packages/*-dbgsym_*

# What they depend on comes first, so that what is left at the end is ours.
apt install -y --no-install-recommends libnbd-bin nbdkit libjansson4 \
  >> "$work/apt.log" 2>&1 || fail "what they depend on cannot be installed"
files > "$work/before"

echo "-- installed"
# The shell of the new system knows the names.
run sh -c 'apt-get -q install -y --no-install-recommends /tmp/packages/*.deb' \
  > "$work/out" 2>&1 || { cat "$work/out"; fail "they cannot be installed"; }
run dpkg -l nbdmigrate nbdkit-filter-migrate nbdmigrate-doc | grep '^ii'
for file in usr/bin/nbdmigrate usr/share/man/man1/nbdmigrate.1.gz \
    usr/share/man/man1/nbdkit-migrate-filter.1.gz \
    usr/share/man/man7/nbdmigrate-control.7.gz \
    usr/share/bash-completion/completions/nbdmigrate \
    usr/share/zsh/vendor-completions/_nbdmigrate; do
  [ -s "$system/$file" ] || fail "there is no $file"
done

echo "-- used"
install -m 755 packaging/use-installed.sh "$system/tmp/"
run /tmp/use-installed.sh || fail "they do not work"

echo "-- which nbdkit is needed"
# other_nbdkit VERSION: a package that takes the place of nbdkit.
other_nbdkit ()
{
  local dir=$work/nbdkit-$1

  mkdir -p "$dir/DEBIAN"
  printf '%s\n' "Package: nbdkit" "Version: $1" "Maintainer: nobody" \
    "Architecture: $(dpkg --print-architecture)" "Description: stands for nbdkit" \
    > "$dir/DEBIAN/control"
  dpkg-deb --build "$dir" "$system/tmp/packages/nbdkit-$1.deb" > /dev/null
}
# shellcheck disable=SC2016 # dpkg's own variables
here=$(run dpkg-query -W -f '${source:Upstream-Version}' nbdkit)
other_nbdkit "$here-999"
apt -s install "/tmp/packages/nbdkit-$here-999.deb" > "$work/rebuilt" 2>&1 ||
  fail "nbdkit cannot be replaced by another build"
! grep -q '^Remv nbdkit-filter-migrate' "$work/rebuilt" ||
  fail "the filter does not accept another build of the same nbdkit"
other_nbdkit "$here.1-1"
apt -s install "/tmp/packages/nbdkit-$here.1-1.deb" > "$work/newer" 2>&1 || :
grep -qE '^Remv nbdkit-filter-migrate|unmet dependencies' "$work/newer" ||
  fail "the filter accepts an nbdkit that does not accept it"

echo "-- removed"
apt purge -y nbdmigrate nbdkit-filter-migrate nbdmigrate-doc > "$work/out" 2>&1 ||
  fail "they cannot be removed"
files > "$work/after"
diff "$work/before" "$work/after" || fail "something is left behind"
echo "PASS"
