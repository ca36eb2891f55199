# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154
#
# What copies a disk in the benchmark, each with its defaults.  Sourced.
#
#   nbdmigrate
#   nbdcopy                 does not ask the destination to flush
#   nbdcopy-flush           does
#   qemu-img                convert, 16 requests, out of order
#   mirror                  qemu-storage-daemon, blockdev-mirror, background
#   mirror-write-blocking

declare -A made_by=([nbdmigrate]=nbdkit [nbdcopy]=nbdcopy [nbdcopy-flush]=nbdcopy
                    [qemu-img]=qemu-img [mirror]=qemu-storage-daemon
                    [mirror-write-blocking]=qemu-storage-daemon)

# installed_programs: those of the row that are there, in "$programs", first
# nbdmigrate.
installed_programs ()
{
  local p

  programs=(nbdmigrate)
  for p in ${PROGRAMS:-${rivals[@]}}; do
    [[ " ${rivals[*]} " == *" $p "* ]] || continue
    if command -v "${made_by[$p]}" > /dev/null; then
      programs+=("$p")
    else
      echo "SKIP: $p: there is no ${made_by[$p]}"
    fi
  done
}

# command_for PROGRAM: the command, in "$command".
command_for ()
{
  local i from=() to=()

  for ((i = 0; i < disks; i++)); do
    from+=("$(disk_uri source $i)")
    to+=("$(disk_uri destination $i)")
  done
  case $1 in
  nbdmigrate)
    command=("$nbdmigrate" --json --finish=detach)
    for i in "${!from[@]}"; do
      command+=("${from[i]}" "${to[i]}")
    done ;;
  nbdcopy)
    at_once nbdcopy ;;
  nbdcopy-flush)
    at_once nbdcopy --flush ;;
  qemu-img)
    at_once qemu-img convert -n -W -m 16 -f raw -O raw ;;
  mirror)
    command=("$python" "$SRCDIR/tests/bench/mirror.py" "$tmp/source.qmp"
             background) ;;
  mirror-write-blocking)
    command=("$python" "$SRCDIR/tests/bench/mirror.py" "$tmp/source.qmp"
             write-blocking) ;;
  esac
}
python=/usr/bin/python3

# at_once COMMAND...: for all disks; all must work.
at_once ()
{
  local i script='set -e; p='

  if [ "$disks" -eq 1 ]; then
    command=("$@" "${from[0]}" "${to[0]}")
    return
  fi
  for i in "${!from[@]}"; do
    script+="; $* '${from[i]}' '${to[i]}' & p=\"\$p \$!\""
  done
  # shellcheck disable=SC2016
  script+='; for i in $p; do wait $i; done'
  command=(bash -c "$script")
}
