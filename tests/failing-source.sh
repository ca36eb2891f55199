# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# What the tests of sources that fail a guest's flush share: a guest that hears of it.
# Sourced after tests/functions.sh.

/usr/bin/python3 -c 'import nbd' 2> "$tmp/python.log" ||
  skip "there is no Python module nbd"

# guest PYTHON: what it does with its connection, "h".
guest ()
{
  /usr/bin/python3 -c 'import sys, nbd
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
exec (sys.argv[2])' "$(uri proxy)" "$1"
}

# What is at the beginning of the disk.
read_it ()
{
  guest 'print (h.pread (4096, 0)[:4])'
}

is_copied ()
{
  has_status "$(uri proxy)" \
    '.dirty_bytes + .unflushed_bytes + .leased_bytes == 0'
}
