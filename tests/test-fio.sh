#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fio as the guest: it reads back what it wrote, and meanwhile the disk is
# migrated twice.  When fio is done, source and destination must be equal after
# one more run, and the pass after fio's verification must find its checksums
# on the destination.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq fio nbdcopy
fio --enghelp | grep -w nbd > /dev/null || skip "fio has no nbd engine"

# run_fio NAME URI ARGUMENT...
fio_job=(fio --name=guest --ioengine=nbd --rw=randwrite --bsrange=512-64k
         --bs_unaligned --iodepth=16 --randseed="$seed" --size=64M
         --verify=crc32c --verify_state_save=0 --output-format=json)

truncate -s 64M "$tmp/source" "$tmp/destination"
start_proxy proxy file "$tmp/source"
start_nbdkit destination file "$tmp/destination"

has_written ()
{
  [ "$(status .guest.written_bytes)" -gt $((1024 * 1024)) ]
}

start_bg guest "${fio_job[@]}" --uri="$(uri proxy)" --rate=40M
wait_for has_written
for i in 1 2; do
  must_migrate --no-shared-memory --finish=detach "$(uri proxy)" \
    "$(uri destination)"
  echo "run $i: passes $(completed passes), pause $(completed pause_ms) ms"
done
wait_bg guest || fail "fio ended with exit status $?"

must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
same_content "$(uri proxy)" "$(uri destination)"
"${fio_job[@]}" --uri="$(uri destination)" --verify_only > "$tmp/verify.out"
