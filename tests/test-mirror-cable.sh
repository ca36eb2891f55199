#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 60
#
# The cable of the destination is pulled while what was mirrored is being
# flushed, and no guest writes: the connection is lost when the network has not
# reached it for so long, and what was not flushed is dirty (R6a).

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
# shellcheck source=tests/net.sh
source "$SRCDIR/tests/net.sh"
# shellcheck source=tests/mirror.sh
source "$SRCDIR/tests/mirror.sh"
requires nbdkit jq qemu-io nbdinfo

add_host a
add_host b
at_port b 10809 start_nbdkit destination memory $chunk
in_host a start_proxy proxy memory $chunk migrate-chunk=$chunk \
  migrate-network-timeout=1s
nbdinfo --size "$(uri proxy)" > "$tmp/size.out"
begin_session
talk take "{\"cursor\": 0, \"max_bytes\": $chunk}"
done_with "$answer" # zeroes on both sides
flush_all
mirror_on 2000
write_to 0 1
must_be_tracked ".dirty_bytes == 0 and .unflushed_bytes == $chunk"

pull b
talk flush-begin
talk flush-end "{\"success\": true, \"epoch\": $epoch}"
must_be_tracked ".dirty_bytes == $chunk and .unflushed_bytes == 0"
must_be_tracked '.mirror.state == "off" and .mirror.demotions == 1'
must_be_tracked '.mirror.why | test("the network does not reach it")'
plug b
leave_session
end_bg proxy
# It never hears of the resets that the cable lost.
crash_bg destination
