#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Only what nobody else can have written is believed of migrate-dir.  Where
# something else is in the place of a file, or the file belongs to a stranger,
# or others can write to it, a sentence says what it is and what to do, nobody
# hangs, nobody is served what may be wrong, and nothing is removed.  And a
# proxy that runs as root first and as another user then (-u) goes on.
#
# timeout: 120

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo jq

size=$((1024 * 1024))
dir=$tmp/proxy.dir

# says WHERE TEXT...: all of it is in this log.
says ()
{
  local log=$1 text

  shift
  for text; do
    grep -qF -- "$text" "$log" || fail "not said: $text in $(cat "$log")"
  done
}

# Connecting as a guest does; it must not hang.
open_disk ()
{
  timeout 10 nbdinfo --size "$(uri proxy)" > "$tmp/size" 2> "$tmp/size.log"
}

start_it ()
{
  start_proxy proxy memory $size "$@"
}

# A directory with a state: the disk was copied once.
new_state ()
{
  rm -rf "$dir" "$tmp/right"
  start_it
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  end_bg proxy
}

# look FILE: what can be seen of it.
look ()
{
  stat -c '%i %F %a %u %s %y' "$dir/$1"
}

# put KIND FILE: in its place; what is right is in $tmp/right.
put ()
{
  local path=$dir/$2

  rm -rf "$tmp/right"
  if [ -e "$path" ]; then
    cp -p "$path" "$tmp/right"
  else
    : > "$tmp/right"
  fi
  case $1 in
  stranger) chown 4242 "$path" ;;
  group) chmod 620 "$path" ;;
  everybody) chmod 606 "$path" ;;
  *)
    rm -f "$path"
    case $1 in
    FIFO) mkfifo "$path" ;;
    link) ln -s "$tmp/right" "$path" ;;
    directory) mkdir "$path" ;;
    socket) /usr/bin/python3 -c 'import socket, sys
socket.socket (socket.AF_UNIX).bind (sys.argv[1])' "$path" ;;
    esac
    ;;
  esac
  look "$2" > "$tmp/before"
}

# What must be said of it.
words_of ()
{
  case $1 in
  stranger) echo 'belongs to user 4242' ;;
  group) echo 'its group can write to it' ;;
  everybody) echo 'everybody can write to it' ;;
  link) echo 'is a symbolic link' ;;
  *) echo "is a $1" ;;
  esac
}

# still_there FILE
still_there ()
{
  look "$1" | cmp -s - "$tmp/before" ||
    fail "$1 is another one now: $(look "$1")"
}

kinds=(FIFO link directory socket group everybody)
[ "$(id -u)" -ne 0 ] || kinds+=(stranger)

start_nbdkit destination memory $size

# ---- the directory ----------------------------------------------------------

# dir_refused TEXT...
dir_refused ()
{
  expect_status 1 timeout 20 nbdkit -f -U "$tmp/x.sock" --filter="$filter" \
    memory $size migrate-dir="$dir" 2> "$tmp/refused.log"
  says "$tmp/refused.log" "$dir" "$@"
}

echo "-- a directory that others can write to"
mkdir "$dir"
chmod 770 "$dir"
dir_refused 'its group can write to it' 0700
chmod 707 "$dir"
dir_refused 'everybody can write to it' 0700
chmod 1777 "$dir"
dir_refused 'it is for everybody (mode 1777)' 'for this disk only'
chmod 700 "$dir"
if [ "$(id -u)" -eq 0 ]; then
  chown 4242 "$dir"
  dir_refused 'belongs to user 4242'
  chown 0 "$dir"
fi

# ---- each file --------------------------------------------------------------

for kind in "${kinds[@]}"; do
  new_state

  echo "-- lock: $kind"
  put "$kind" lock
  dir_refused lock "$(words_of "$kind")" 'move it away'
  still_there lock
  rm -rf "$dir/lock"

  echo "-- state: $kind"
  put "$kind" state
  # The directory belongs to the one who asks.
  "$nbdmigrate" status "$dir" > "$tmp/status" 2> "$tmp/status.log" || :
  says "$tmp/status" 'place        unknown'
  says "$tmp/status.log" "$dir/state" "$(words_of "$kind")"
  start_it
  open_disk || fail "the control socket cannot be found: $(cat "$tmp/size.log")"
  expect_status 1 timeout 10 nbdcopy "$(uri proxy)" null: 2> "$tmp/fence.log"
  says "$tmp/proxy.log" "$dir/state" "$(words_of "$kind")" 'is not served'
  expect_status 1 "$nbdmigrate" reopen "$dir" owner=source 2> "$tmp/reopen.log"
  says "$tmp/proxy.log" 'replacing the state file' 'move it away'
  still_there state
  end_bg proxy
  rm -rf "$dir/state"
  cp -p "$tmp/right" "$dir/state"

  echo "-- history: $kind"
  put "$kind" history
  start_it
  open_disk || fail "no guest is served: $(cat "$tmp/size.log")"
  says "$tmp/proxy.log" "$dir/history" "$(words_of "$kind")" 'move it away'
  expect_status 1 migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  still_there history
  mv "$dir/history" "$tmp/moved.$kind"
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  end_bg proxy

  # What a crash would leave behind.
  echo "-- .new-state and .new-history: $kind"
  for file in .new-state .new-history; do
    rm -rf "$dir"
    mkdir -m 700 "$dir"
    case $kind in
    stranger | group | everybody) : > "$dir/$file" ;;
    esac
    put "$kind" $file
    start_it
    open_disk
    expect_status 1 migrate --finish=detach "$(uri proxy)" "$(uri destination)"
    says "$tmp/proxy.log" $file "$(words_of "$kind")" 'move it away'
    still_there $file
    end_bg proxy
  done
done

echo "-- what is not the filter's says nothing of a process before"
rm -rf "$dir"
mkdir -m 700 "$dir"
: > "$dir/statement"
start_it
open_disk
must_have_status "$(uri proxy)" '.source_late_ms == 0'
end_bg proxy

# ---- as root first ----------------------------------------------------------

[ "$(id -u)" -eq 0 ] || exit 0
chmod 777 "$tmp" # nbdkit writes its pid file as that user
for user in nobody 4242; do
  echo "-- as root first, then as $user"
  new_state
  for file in .new-state .new-history history.x .new-state.x; do
    : > "$dir/$file"
  done
  start_it -u $user
  open_disk || fail "no guest is served: $(cat "$tmp/size.log")"
  has_status "$dir" '.owner == "source" and .last_end == "detached"' ||
    fail "the state is not known: $(cat "$tmp/proxy.log")"
  must_migrate --finish=detach "$(uri proxy)" "$(uri destination)"
  must_migrate --finish=detach --incremental "$(uri proxy)" \
    "$(uri destination)"
  [ "$(completed resumed)" = true ]
  [ -z "$(find "$dir" ! -user $user)" ] ||
    fail "not given away: $(find "$dir" ! -user $user)"
  end_bg proxy
done

echo "-- what is not the filter's is not given away"
new_state
ln "$dir/history" "$tmp/second-name"
expect_status 1 nbdkit -f -U "$tmp/x.sock" -u nobody --filter="$filter" \
  memory $size migrate-dir="$dir" 2> "$tmp/refused.log"
says "$tmp/refused.log" "$dir/history" 'hard link'
rm "$tmp/second-name"
: > "$dir/statement"
chown nobody "$dir"
start_it -u nobody
open_disk
[ "$(stat -c %u "$dir/statement")" -eq 0 ] || fail "statement was given away"
