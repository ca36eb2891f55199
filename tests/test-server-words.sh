#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a server says of a request that fails, besides the number of the error, is
# in the message: of qemu-nbd's, and of nbdkit's since 1.42.  Otherwise there is the
# error alone.  What the request comes to when it is made once more, to hear that,
# does not count.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit qemu-nbd qemu-img jq

# fails_with TEXT: nbdmigrate, with this in its message.
fails_with ()
{
  expect_status 1 migrate --reconnect=0 "$(uri proxy)" "$(uri destination)"
  grep -qF -- "$1" "$tmp/migrate.log" ||
    fail "this is not said: $1 in $(cat "$tmp/migrate.log")"
  event 'map(select(.event == "failed")) | last | .error' | grep -qF -- "$1" ||
    fail "nor is it in the event"
}

start_proxy proxy memory 2M
fill "$(uri proxy)" 100

echo "-- qemu-nbd"
truncate -s 2M "$tmp/copy"
cat > "$tmp/blkdebug" <<END
[inject-error]
event = "write_aio"
errno = "28"
once = "off"
END
start_qemu_nbd destination -e 16 --image-opts \
  "driver=raw,file.driver=blkdebug,file.config=$tmp/blkdebug,file.image.driver=file,file.image.filename=$tmp/copy"
fails_with 'the server answered: No space left on device ("writing to file failed")'
end_bg destination

# One that fails as many writes of data as it is told in a file, with a sentence.
cat > "$tmp/plugin" <<'END'
case "$1" in
get_size) echo 2M ;;
can_write) exit 0 ;;
can_flush) exit 0 ;;
pread) dd if="$copy" iflag=skip_bytes,count_bytes,fullblock skip="$4" count="$3" 2> /dev/null ;;
pwrite)
  if read -r left < "$copy.fail" && [ "$left" -gt 0 ]; then
    echo $((left - 1)) > "$copy.fail"
    echo "ENOSPC volume seven is full,	ask $(printf '\033')[1mBob" >&2
    exit 1
  fi
  dd of="$copy" oflag=seek_bytes conv=notrunc seek="$4" 2> /dev/null
  ;;
*) exit 2 ;;
esac
END
chmod +x "$tmp/plugin"
export copy=$tmp/copy

fails ()
{
  echo "$1" > "$copy.fail"
  start_nbdkit destination sh "$tmp/plugin"
  fails_with "the server answered: No space left on device$2"
  end_bg destination
}

echo "-- nbdkit, each time"
words=
if nbdkit_is_at_least 42; then
  # A tab and what would change the colours of a terminal are left out.
  words=" (\"$tmp/plugin: volume seven is full, ask  [1mBob\")"
fi
fails 1000 "$words"

# Then it succeeds, and there is nothing that could be told.
echo "-- nbdkit, once"
fails 1 ''
! grep -F '("' "$tmp/migrate.log" || fail "where are these words from?"

echo "-- nothing is left of it"
echo 0 > "$copy.fail"
start_nbdkit destination sh "$tmp/plugin"
must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
same_content "$(uri proxy)" "$(uri destination)"
