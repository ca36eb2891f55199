#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a server says of a request that fails, besides the number of the error, is
# in the message: qemu-nbd says something; nbdkit does not (seen up to 1.48; since
# 1.42 it explains only why it refuses an export), and there is the error alone.  What
# the request comes to when it is made once more, to hear that, does not count.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit qemu-nbd qemu-img jq

# fails_with TEXT [OPTION]: nbdmigrate, with this in its message.
fails_with ()
{
  expect_status 1 migrate --reconnect=0 "${@:2}" "$(uri proxy)" "$(uri destination)"
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

# A source that fails as many reads as it is told in a file, with a sentence.
cat > "$tmp/plugin" <<'END'
case "$1" in
thread_model) echo parallel ;;
get_size) echo 2M ;;
can_write | can_flush) exit 0 ;;
pread)
  if read -r left < "$failures" && [ "$left" -gt 0 ]; then
    echo $((left - 1)) > "$failures"
    echo "EIO volume seven is ill,	ask $(printf '\033')[1mBob" >&2
    exit 1
  fi
  head -c "$3" /dev/zero
  ;;
*) exit 2 ;;
esac
END
chmod +x "$tmp/plugin"
export failures=$tmp/failures

# fails TIMES WORDS
fails ()
{
  rm -rf "$tmp/proxy.dir"
  echo "$1" > "$failures"
  start_proxy proxy sh "$tmp/plugin"
  fails_with "the server answered: Input/output error$2" --no-shared-memory
  end_bg proxy
}

end_bg proxy
start_nbdkit destination memory 2M

echo "-- nbdkit, each time"
fails 1000 ''
! grep -F '("' "$tmp/migrate.log" || fail "nbdkit explains its errors now"

# Then it succeeds, and there is nothing that could be told.
echo "-- nbdkit, once"
fails 1 ''
! grep -F '("' "$tmp/migrate.log" || fail "where are these words from?"
