# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034,SC2154
#
# The servers of a row of the benchmark: a source that is the same for all
# programs, and a destination that is new each time.  Sourced after
# tests/functions.sh; what describe_row (rows.sh) set is used here.
#
# Disks are named 0, 1 and so on; one server has them all.

sources=$tmp/sources
copies=$tmp/copies
mkdir "$sources" "$copies"

# make_source: the disks, by pieces of random bytes.
make_source ()
{
  local i bytes n=$nr_pieces

  for ((i = 0; i < disks; i++)); do
    truncate -s "$size" "$sources/$i"
    bytes=$(stat -c %s "$sources/$i")
    [ "$nr_pieces" != all ] || n=$((bytes / pieces))
    "$BUILD/tests/scatter" "$sources/$i" "$n" "$pieces" $((seed + i))
  done
}

# What `nbdkit file` serves of a directory, in "$files".
choose_files ()
{
  if [ "$disks" -eq 1 ]; then
    files=("$1/0")
  else
    files=("dir=$1")
  fi
}

# The URI of disk I of a server.
disk_uri ()
{
  local u

  u=$(uri "$1")
  if [ "$disks" -eq 1 ]; then
    echo "$u"
  else
    echo "${u/\/\/\//\/\/\/$2}"
  fi
}

# ---- source ----------------------------------------------------------------

# start_source PROGRAM: what that program reads from.  Rivals have it without
# our filter; the storage daemon opens the file itself.
start_source ()
{
  local -a listen=() files named=()

  choose_files "$sources"
  [ "$disks" -eq 1 ] || named=(migrate-named-exports=true)
  case $1 in
  nbdmigrate)
    rm -rf "$tmp/source.dir"
    start_proxy source file "${files[@]}" "${named[@]}" ;;
  mirror*)
    rm -f "$tmp/source.qmp" "$tmp/source.pid"
    start_bg source qemu-storage-daemon --pidfile "$tmp/source.pid" \
      --blockdev "driver=file,filename=$sources/0,node-name=source" \
      --blockdev "driver=nbd,server.type=unix,server.path=$tmp/destination.sock,node-name=copy" \
      --chardev "socket,id=c,path=$tmp/source.qmp,server=on,wait=off" \
      --monitor chardev=c
    wait_for server_is_up source ;;
  *)
    start_nbdkit source file "${files[@]}" ;;
  esac
}

stop_source ()
{
  end_bg source
}

# ---- destination -----------------------------------------------------------

# A port of this machine nobody listens at.
choose_port ()
{
  port=$((20000 + RANDOM % 20000))
  while grep -qi ":$(printf '%04X' "$port") " /proc/net/tcp; do
    port=$((port + 1))
  done
}

start_destination ()
{
  "start_destination_$destination"
}

start_destination_file ()
{
  local i files

  choose_files "$copies"
  rm -f "$copies"/*
  for ((i = 0; i < disks; i++)); do
    truncate -s "$size" "$copies/$i"
  done
  start_nbdkit destination "$@" file "${files[@]}"
}

start_destination_memory ()
{
  start_nbdkit destination memory "$size"
}

start_destination_qcow2 ()
{
  qemu-img create -q -f qcow2 "$copies/qcow2" "$size"
  start_qemu_nbd destination -f qcow2 -e 16 --discard=unmap "$copies/qcow2"
}

start_destination_tcp ()
{
  local -a listen
  local listen_uri

  choose_port
  listen=(-i 127.0.0.1 -p "$port") listen_uri=nbd://127.0.0.1:$port
  start_destination_file "$@"
}

start_destination_tls ()
{
  [ -d "$tmp/pki" ] || make_certificates "$tmp/pki"
  start_destination_tcp --tls=require --tls-certificates="$tmp/pki"
  uris[destination]="nbds://127.0.0.1:$port/?tls-certificates=$tmp/pki"
}

# make_certificates DIR: of an authority, and of a server at 127.0.0.1.
make_certificates ()
{
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)

  mkdir "$1"
  (
    cd "$1" || exit
    openssl req -x509 "${key[@]}" -keyout ca-key.pem -out ca-cert.pem \
      -subj "/CN=authority" -days 2
    openssl req "${key[@]}" -keyout server-key.pem -out request.pem \
      -subj "/CN=localhost"
    openssl x509 -req -in request.pem -CA ca-cert.pem -CAkey ca-key.pem \
      -CAcreateserial -out server-cert.pem -days 2 \
      -extfile <(echo "subjectAltName=IP:127.0.0.1")
  ) 2> "$tmp/openssl.log"
}

# The network between is none of the processes that are measured.
start_destination_away ()
{
  start_destination_file
  choose_port
  start_bg way "$BUILD/tests/long-way" "$away_ms" "tcp:127.0.0.1:$port" \
    "unix:$tmp/destination.sock"
  wait_for grep -q listening "$tmp/way.out"
  uris[destination]=nbd://127.0.0.1:$port
}

stop_destination ()
{
  [ "$destination" != away ] || end_bg way
  end_bg destination
}

# ---- verdict ---------------------------------------------------------------

# The copies must be right.  Called while the servers run.
must_be_copied ()
{
  local i

  case $destination in
  memory | qcow2)
    rm -f "$copies/0"
    truncate -s "$size" "$copies/0"
    nbdcopy --destination-is-zero "$(uri destination)" "$copies/0" ;;
  esac
  for ((i = 0; i < disks; i++)); do
    "$BUILD/tests/same-data" "$sources/$i" "$copies/$i" ||
      fail "the copy of disk $i is not right"
  done
  rm -f "$copies"/*
}
