#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# What `make install` puts where works from there, says its version, belongs to one
# package each, and `make uninstall` takes all of it away.  A tarball has what git
# has, whoever makes it, and where.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdcopy make

root=$tmp/root
filters=/usr/lib/multiarch/nbdkit/filters
# shellcheck disable=SC2016 # make's own variable
version=$(sed -n 's/^VERSION := //p' "$SRCDIR/Makefile")

# Only what was built is installed.
in_tree ()
{
  env -u MAKEFLAGS -u MAKELEVEL make -s -C "$SRCDIR" B="$BUILD" \
    SANITIZE="${SANITIZE:-}" PREFIX=/usr FILTERDIR="$filters" DESTDIR="$root" \
    ZSHCOMPDIR=/usr/share/zsh/vendor-completions "$@" \
    -o "$BUILD/nbdmigrate" -o "$BUILD/nbdkit-migrate-filter.so"
}

echo "-- installed"
in_tree install
(cd "$root" && find . -type f | sort) | tee "$tmp/installed"
[ "$("$root/usr/bin/nbdmigrate" --version)" = "nbdmigrate $version" ]

echo "-- manuals with the version"
for page in "$root"/usr/share/man/man?/*; do
  grep -q "^\.TH .*\"nbdmigrate $version\"" "$page" ||
    fail "$page does not say its version"
done

echo "-- each file belongs to one package"
while read -r file; do
  owners=0
  for list in "$SRCDIR"/debian/*.install; do
    while read -r pattern; do
      # shellcheck disable=SC2053 # a pattern
      if [[ ${file#./} == $pattern ]]; then
        owners=$((owners + 1))
      fi
    done < <(grep -v '^#' "$list")
  done
  [ $owners -eq 1 ] || fail "$file belongs to $owners packages"
done < "$tmp/installed"

echo "-- used"
filter=$root$filters/nbdkit-migrate-filter.so
nbdmigrate=$root/usr/bin/nbdmigrate
head -c 4M /dev/urandom > "$tmp/disk"
truncate -s 16M "$tmp/disk"
cp "$tmp/disk" "$tmp/written"
start_proxy source file "$tmp/disk"
start_nbdkit destination memory 16M
"$nbdmigrate" --quiet --verify "$(uri source)" "$(uri destination)"
nbdcopy "$(uri source)" - | cmp - "$tmp/written"
end_bg source

echo "-- removed"
in_tree uninstall
[ -z "$(find "$root" -type f)" ] || fail "left behind: $(find "$root" -type f)"

echo "-- the tarball"
repository=(git -c safe.directory='*' -C "$SRCDIR")
if "${repository[@]}" rev-parse HEAD > /dev/null 2>&1; then
  # dist NAME: as someone else.
  dist ()
  {
    env -u MAKEFLAGS -u MAKELEVEL make -s -C "$SRCDIR" B="$tmp/$1" dist
  }
  (umask 077 && TZ=Asia/Tokyo dist one)
  (umask 002 && LC_ALL=C.UTF-8 TZ=UTC dist two)
  cmp "$tmp/one/nbdmigrate-$version.tar.gz" \
      "$tmp/two/nbdmigrate-$version.tar.gz" ||
    fail "the same commit gives different tarballs"
  tar -tf "$tmp/one/nbdmigrate-$version.tar.gz" | grep -v '/$' |
    sed "s|^nbdmigrate-$version/||" | sort > "$tmp/packed"
  "${repository[@]}" ls-tree -r --name-only HEAD | sort | diff - "$tmp/packed"
else
  echo "this is no clone"
fi
