# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2154
#
# The rows of the benchmark: which disk, to where, against whom.  Sourced.

all_rows=(dense-file dense-memory dense-qcow2 dense-tcp dense-tls
          away-5ms away-20ms away-50ms sparse-32g sparse-8t disks-8)

# describe_row ROW: sets
#   work         what it is, for people
#   disks        how many, at once
#   size         of each
#   pieces       of data, in bytes each, and how many; 1 MiB and all: dense
#   destination  the kind of server (servers.sh)
#   away_ms      how far it is, if it is away
#   rivals       programs to compare with (programs.sh)
describe_row ()
{
  local dense=${SIZE:-2G}

  disks=1 size=$dense pieces=$((1024 * 1024)) nr_pieces=all away_ms=0
  destination='file'
  rivals=(nbdcopy)
  case $1 in
  dense-file)
    work="dense $dense, file to file"
    rivals+=(nbdcopy-flush qemu-img mirror mirror-write-blocking) ;;
  dense-memory)
    work="dense $dense, file to memory" destination=memory ;;
  dense-qcow2)
    work="dense $dense, file to qcow2 on qemu-nbd -e 16" destination=qcow2 ;;
  dense-tcp)
    work="dense $dense, to a file by TCP on loopback" destination=tcp ;;
  dense-tls)
    work="dense $dense, to a file with TLS on loopback" destination=tls ;;
  away-*)
    away_ms=${1#away-} away_ms=${away_ms%ms} destination=away
    work="dense $dense, to a file $away_ms ms away (round trip)" ;;
  sparse-32g)
    work="32 GiB with 256 MiB of data in pieces of 64 KiB"
    size=32G pieces=65536 nr_pieces=4096 ;;
  sparse-8t)
    work="8 TiB with 1 GiB of data in pieces of 64 KiB"
    size=8T pieces=65536 nr_pieces=16384 ;;
  disks-8)
    work="8 dense disks of 256 MiB at once" disks=8 size=256M ;;
  *)
    fail "there is no row $1" ;;
  esac
}

# ROW RIVAL FIGURE RELATION VALUE.  speed: ours in units of the rival's; cpu:
# the same of the CPU seconds of all processes; peak_mib: the most memory of
# nbdmigrate, less what it shares with the proxy; ring_mib: that.
targets='
dense-file    nbdcopy  speed     >=  1.5
dense-file    nbdcopy  cpu       <=  0.70
dense-file    mirror   speed     >=  2.2
dense-memory  nbdcopy  speed     >=  1.5
dense-qcow2   nbdcopy  speed     >=  1.3
dense-tcp     nbdcopy  speed     >=  1.4
dense-tls     nbdcopy  speed     >=  1.2
away-5ms      nbdcopy  speed     >=  1.2
away-20ms     nbdcopy  speed     >=  1.2
away-50ms     nbdcopy  speed     >=  1.2
sparse-32g    nbdcopy  speed     >=  2
sparse-8t     nbdcopy  speed     >=  1.5
disks-8       nbdcopy  speed     >=  1.3
'
# In every row, of nbdmigrate alone.
memory_targets='
peak_mib  <=  48
ring_mib  <=  64
'
