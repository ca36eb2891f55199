#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 180
#
# A sample of what calls-fail.sh does: calls about files fail once, whichever; a disk
# stays full or broken, descriptors are lacking for some time; nothing is read or
# written whole: and nothing is lost, hangs or is hidden.  A filter that ignores a
# failure of fdatasync of its record is caught.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq addr2line
[ -z "${SANITIZER:-}" ] || skip "a sanitizer has malloc and its kind for itself"

bug=$BUILD/bug-ignore_failed_sync/nbdkit-migrate-filter.so

# fail_some NAME SCENARIO...: with what is in the environment.
fail_some ()
{
  local name=$1

  shift
  KEEP='' SEED=$seed FIRST=1 OUT=$tmp/$name "$SRCDIR/tests/calls-fail.sh" "$@" \
    > "$tmp/$name.out" 2> "$tmp/$name.log"
}

export CALLS='write|pwrite|fdatasync|fsync|ftruncate|rename|unlink(at)?|open(at)?'
# failed_in NAME: what is to be told of it.
failed_in ()
{
  fail "$(cat "$tmp/$1".* "$tmp/$1"/*/log)"
}

SAMPLE=1 fail_some sound || failed_in sound
cat "$tmp/sound.out"

SAMPLE=1 CALLS='.*' LASTING='ENOSPC EIO EMFILE' fail_some lasting pivot again ||
  failed_in lasting
cat "$tmp/lasting.out"
SHORT=1 fail_some short pivot || failed_in short
cat "$tmp/short.out"

SAMPLE=1 CALLS='no_such_call' fail_some none detach &&
  fail "that no call was made to fail is not noticed"
grep -q 'no call to fail whose name is no_such_call' "$tmp/none.log"

[ -e "$bug" ] || skip "ignore_failed_sync was not built: make planted-bugs"
SAMPLE='' CALLS=fdatasync FILTER=$bug fail_some broken handover && fail "it was not caught"
grep SILENT "$tmp/broken.out" || fail "$(cat "$tmp/broken.out")"
