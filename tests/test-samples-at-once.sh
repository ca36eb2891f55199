#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Of a large hole several samples are read side by side, and while they are read
# the next question is put.  The plugin answers such a read only when a second
# one has come to it, and the first of them only when another question has; it
# waits for ten seconds, and leaves a file behind if that was in vain.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq
S=$(uri proxy)
D=$(uri destination)

# So many questions have been put, of ranges that grow, when one is about several
# hundred MiB.
several=6
mkdir "$tmp/asked" "$tmp/reads"
cat > "$tmp/read.sh" << EOF
asked=\$(ls $tmp/asked | wc -l)

# until_more_than N DIR
until_more_than ()
{
  i=0
  while [ \$(ls \$2 | wc -l) -le \$1 ] && [ ! -e $tmp/in-vain ]; do
    i=\$((i + 1))
    [ \$i -lt 500 ] || touch $tmp/in-vain
    sleep 0.02
  done
}

if [ \$asked -ge $several ]; then
  touch $tmp/reads/\$4
  until_more_than 1 $tmp/reads
  if mkdir $tmp/first 2> /dev/null; then
    until_more_than \$asked $tmp/asked
  fi
fi
dd if=/dev/zero count=1 bs=\$3
EOF

start_proxy proxy eval get_size='echo 8G' thread_model='echo parallel' \
  can_write='exit 0' pwrite='exit 1' can_multi_conn='exit 0' \
  can_flush='exit 0' flush='exit 0' can_extents='exit 0' \
  extents="touch $tmp/asked/\$4; echo \$4 \$3 zero" pread=". $tmp/read.sh"
start_nbdkit destination memory 8G
must_migrate --finish=detach "$S" "$D"
(($(find "$tmp/asked" -type f | wc -l) > several)) ||
  fail "there were few questions"
[ -e "$tmp/first" ] || fail "there were few samples"
[ ! -e "$tmp/in-vain" ] || fail "a sample, or a question, comes after the other"
