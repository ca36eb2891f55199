# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034
#
# The guests of the parts pause and converge.  Sourced.  All write only.

# describe_load LOAD BYTES: on a disk of so many bytes; sets
#   load_text  what it is, for people
#   load       arguments of guest-load
describe_load ()
{
  case $1 in
  idle)
    load_text="1000 writes of 4 KiB a second, one at a time, to the same 64 KiB"
    load=(--rate 4000K --depth 1 --span 64K) ;;
  random-20)
    load_text="random 4 KiB, 20 MiB/s, depth 16"
    load=(--rate 20M --depth 16) ;;
  random-60)
    load_text="random 4 KiB, 60 MiB/s, depth 16"
    load=(--rate 60M --depth 16) ;;
  random)
    load_text="random 4 KiB, as fast as it can, depth 16"
    load=(--depth 16) ;;
  sequential)
    load_text="the whole disk again and again, 64 KiB, as fast as it can, depth 4"
    load=(--request 64K --depth 4 --sequential) ;;
  hot)
    load_text="random 4 KiB to 1 % of the disk, 60 MiB/s, depth 16"
    load=(--rate 60M --depth 16 --span $(($2 / 100 / 4096 * 4096))) ;;
  *)
    fail "there is no load $1" ;;
  esac
}
