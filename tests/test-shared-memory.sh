#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The filter's side of reading through shared memory: only what the session's
# own process has posted is read into it; nobody else's CACHE touches it; memory
# that could be taken away is refused; and it is unmapped when the session ends,
# in whatever way.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo

# start_reader ARGUMENT...: its first line, the answer to 'begin', in $answer.
start_reader ()
{
  rm -f "$tmp/reader.in" "$tmp/reader.answers"
  mkfifo "$tmp/reader.in" "$tmp/reader.answers"
  "$BUILD/tests/shared-reader" "$tmp/proxy.dir/control" "$(uri proxy)" "$@" \
    < "$tmp/reader.in" > "$tmp/reader.answers" 2> "$tmp/reader.log" &
  pids[reader]=$!
  names+=(reader)
  exec {to_reader}> "$tmp/reader.in" {from_reader}< "$tmp/reader.answers"
  read -r answer <&"$from_reader" || fail "the reader has ended"
}

# said LINE BEGINNING-OF-THE-ANSWER
said ()
{
  echo "$1" >&"$to_reader"
  read -r answer <&"$from_reader" || fail "the reader has ended: $1"
  echo "$1: $answer"
  [[ $answer == "$2"* ]] || fail "$1: expected $2"
}

close_reader ()
{
  exec {to_reader}>&- {from_reader}<&-
}

end_reader ()
{
  close_reader
  wait_bg reader || fail "the reader ended with exit status $?"
}

is_mapped ()
{
  grep -q nbdmigrate-data "/proc/${pids[proxy]}/maps"
}

is_not_mapped ()
{
  ! is_mapped
}


session_has_ended ()
{
  start_talker proxy
  talk attach
  crash_bg talker
  [[ $answer == *'"session":false'* ]]
}

# Whether a client is told of NBD_CMD_CACHE.
can_cache ()
{
  nbdinfo --can cache "$(uri proxy)"
}

# refused WHY ARGUMENT...: the session begins, without the memory.
refused ()
{
  local why=$1

  shift
  start_reader "$@"
  [[ $answer == *'"shared_memory":false'*"$why"* ]] ||
    fail "$*: expected a refusal: $why"
  is_not_mapped || fail "$*: it is mapped all the same"
  end_reader
}

head -c $((5 * 1024 * 1024 + 513)) /dev/urandom > "$tmp/disk"
slots=8192

start_proxy proxy file "$tmp/disk"

echo "---- what is refused"
refused "sealed" --bytes=$((slots + 65536)) --unsealed
refused "size" --bytes=$((slots + 65535))
refused "size" --bytes=$slots
refused "size" --bytes=1
refused "size" --bytes=$((slots + 64 * 1024 * 1024 + 65536))
# A file in memory can be sealed as a memfd can; others cannot.
for dir in /var/tmp /dev/shm; do
  [ -w $dir ] || continue
  file=$dir/nbdmigrate-test.$$
  truncate -s $((slots + 65536)) "$file"
  at_end "rm -f $file"
  case $(stat -f -c %T $dir) in
  tmpfs) refused "sealed" --file="$file" ;;
  *) refused "no memfd" --file="$file" ;;
  esac
done

echo "---- reads"
start_reader
[[ $answer == *'"shared_memory":true'* ]] || fail "refused: $answer"
is_mapped || fail "it is not mapped"
said 'read 0 65536' 'filled equal'
said 'read 4097 1' 'filled equal'
said 'read 4194304 1048576' 'filled equal'
said "read $((5 * 1024 * 1024)) 513" 'filled equal'
said 'cache 0 65536' ok # as ever
said 'read 0 2097152' posted # longer than the memory

echo "---- other clients"
end_reader
start_reader
said 'post 65536 4096' posted
can_cache || fail "the file plugin can cache"
"$BUILD/tests/shared-reader" --cache "$(uri proxy)" 65536 4096
said look 'posted untouched'
said 'cache 65536 2048' ok
said 'cache 65536 8192' ok
said look 'posted untouched'
said 'cache 65536 4096' ok
said look 'filled written'

echo "---- the end of the session"
said 'post 0 4096' posted
said end '{"return"'
wait_for is_not_mapped
said 'cache 0 4096' ok
said look 'posted written'
end_reader

start_reader
is_mapped || fail "it is not mapped"
crash_bg reader
close_reader
wait_for is_not_mapped

echo "---- a connection that was there before the control connection"
start_reader --early
[[ $answer == *'"shared_memory":true'* ]] || fail "refused: $answer"
said 'post 0 4096' posted
said 'cache 0 4096' ok
said look 'posted untouched'
end_reader

echo "---- a process that is killed while the plugin reads for it"
kill_bg proxy TERM
wait_bg proxy
start_proxy proxy eval get_size='echo 65536' can_multi_conn='exit 0' \
  thread_model='echo parallel' pread="[ \$3 -lt 65536 ] || # the filter looks, too
      echo > $tmp/reading
    until [ \$3 -lt 65536 ] || [ -e $tmp/go ]; do sleep 0.02; done
    head -c \$3 /dev/zero"
start_reader
echo 'read 0 65536' >&"$to_reader"
wait_for is_file "$tmp/reading"
crash_bg reader
close_reader
wait_for session_has_ended
is_mapped || fail "it was unmapped while the plugin reads into it"
touch "$tmp/go"
wait_for is_not_mapped
nbdinfo --size "$(uri proxy)" || fail "the proxy serves nobody any more"

echo "---- what cannot be read"
# A failure, and a good answer to whoever asks again, are no data.
kill_bg proxy TERM
wait_bg proxy
start_proxy proxy eval get_size='echo 65536' can_multi_conn='exit 0' \
  can_cache='echo emulate' thread_model='echo parallel' \
  pread="if [ \$3 -ge 4096 ] && mkdir $tmp/failed 2> /dev/null; then
      echo EIO bad >&2; exit 1; fi
    head -c \$3 /dev/zero"
start_reader
said 'post 0 4096' posted
said 'cache 0 4096' 'Input/output error'
said look 'posted untouched'
said 'cache 0 4096' ok
said look 'filled written'
end_reader

echo "---- who is told of it"
kill_bg proxy TERM
wait_bg proxy
start_proxy proxy --filter=nocache memory 1M
! can_cache || fail "a guest is told of CACHE"
start_reader
! can_cache || fail "a guest is told of CACHE"
said 'read 0 65536' 'filled equal'
said 'cache 0 65536' ok
end_reader
start_talker proxy
talk attach
! can_cache || fail "a guest is told of CACHE"
