#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# The commands of README.md, docs/recipes.md and docs/operations.md are run as they stand
# there, section by section, each in a world of its own where /run, /srv and /var/lib are
# empty and all hosts are this one.  What is not run is said, with the test that does; a
# command that is neither is a failure.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit nbdinfo qemu-img qemu-nbd jq gnuplot unshare ip make
requires_root
unshare --mount --net --pid --fork true 2> "$tmp/unshare.log" ||
  skip "no namespaces: $(cat "$tmp/unshare.log")"

filters=$(nbdkit --dump-config | sed -n 's/^filterdir=//p')
cp -a "$filters" "$tmp/filters"
cp "$filter" "$tmp/filters/nbdkit-migrate-filter.so"
echo "127.0.0.1 localhost other-host host2 backup" > "$tmp/hosts"

# commands FILE: of each block that is indented by four blanks "SECTION|COMMAND" without
# the prompt of a host and without comments; what goes on in another line is put
# together.  Neither what the demonstration prints nor a drawing.
commands ()
{
  sed -e '/<!-- demo -->/,/<!-- \/demo -->/d' -e '/[│─]/d' "$1" |
    awk '
      /^##? / { section = $0; sub (/^##? /, "", section) }
      !/^    / { next }
      {
        line = line substr ($0, 5)
        if (sub (/ *\\$/, " ", line)) next
        sub (/^[a-z0-9]+\$ /, "", line)
        sub (/ +# .*/, "", line)
        gsub (/  +/, " ", line)
        print section "|" line
        line = ""
      }'
}

# How it begins everywhere; the rest is of each section: what is there before, its
# commands, and what must be so in the end.
world_begins ()
{
  cat <<END
set -euo pipefail
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /srv
mount -t tmpfs tmpfs /var/lib
mount --bind "$tmp/filters" "$filters"
mount --bind "$tmp/hosts" /etc/hosts
ip link set lo up
PATH="$(dirname "$nbdmigrate"):\$PATH"
mkdir /srv/here
cd /srv/here
until_it_is_there ()
{
  for ((i = 0; i < 500; i++)); do
    ! "\$@" > /dev/null 2>&1 || return 0
    sleep 0.02
  done
  echo "waited in vain for: \$*"
  exit 1
}
END
}

# In the background what stays in the foreground; until it is there.
put_command ()
{
  local socket

  echo "echo '   \$' $(printf %q "$1")"
  case $1 in
  qemu-nbd*)
    echo "$1 &"
    socket=$(sed -n 's/.* -k \([^ ]*\).*/\1/p' <<< "$1")
    echo "until_it_is_there nbdinfo --size '${socket:+nbd+unix:///?socket=}${socket:-nbd://localhost}'"
    ;;
  *) echo "$1" ;;
  esac
}

# world FILE SECTION BEFORE AFTER: "..." in a command is SOURCE and DESTINATION of the way
# back.  What is printed is in $tmp/said, too.
world ()
{
  local command there="'nbd+unix:///?socket=/run/vm1.sock' local:"

  echo "-- $1: $2"
  {
    world_begins
    echo "$3"
    while IFS= read -r command; do
      put_command "${command/ .../ $there}"
    done < <(commands "$SRCDIR/$1" | grep -F "$2|" | cut -d '|' -f 2-)
    echo "$4"
  } > "$tmp/world"
  grep -q "^echo '   " "$tmp/world" || fail "there is no command in it"
  echo "$1|$2" >> "$tmp/done"
  unshare --mount --net --pid --mount-proc --fork --kill-child \
    bash "$tmp/world" < /dev/null 2>&1 | tee "$tmp/said" ||
    fail "exit status $? in that section"
}

# elsewhere FILE SECTION TEST: that has to be there.
elsewhere ()
{
  echo "-- $1: $2: not here: $3"
  [ -e "$SRCDIR/tests/$3.sh" ] || [ -e "$SRCDIR/$3" ] || fail "there is no $3"
  echo "$1|$2" >> "$tmp/done"
}

# targets FILE SECTION: make knows them.
targets ()
{
  local command

  echo "-- $1: $2: targets of make, not built"
  while IFS= read -r command; do
    case $command in
    make*)
      echo "   $command"
      # shellcheck disable=SC2086 # words
      env -u BUILD make -n -C "$SRCDIR" ${command#make} > "$tmp/make.out" 2>&1 ||
        fail "$(tail -n 3 "$tmp/make.out")"
      ;;
    apt-get* | dpkg-buildpackage* | rpmbuild*) echo "   not run: $command" ;;
    *) fail "what is to be done with this? $command" ;;
    esac
  done < <(commands "$SRCDIR/$1" | grep -F "$2|" | cut -d '|' -f 2-)
  echo "$1|$2" >> "$tmp/done"
}

elsewhere README.md nbdmigrate test-demo
world README.md Use 'head -c 8M /dev/urandom > disk.img
  truncate -s 8M there.img
  nbdkit file there.img' '
  cmp disk.img there.img
  nbdmigrate status --json /var/lib/vm1 |
    jq -e ".owner == \"destination\" and .place == null" > status
  grep -q "<html" vm1.html'
targets README.md "What can be relied on"
targets README.md "Build and install"

proxy=$(commands "$SRCDIR/docs/recipes.md" | sed -n 's/^Recipes|//p')
world docs/recipes.md Recipes 'truncate -s 8M /srv/vm1.raw' '
  nbdinfo "nbd+unix:///?socket=/run/vm1.sock" | grep control=/var/lib/vm1/control'
world docs/recipes.md "Images that exist already" '
  qemu-img create -q -f qcow2 vm1.qcow2 8M
  qemu-io -c "write -P 7 1M 1M" vm1.qcow2 > qemu-io.out
  # The new one is on another host.
  qemu-img () { mkdir there; cd there; command qemu-img "$@"; }' '
  nbdmigrate "nbd+unix:///?socket=/run/vm1.sock" nbd://localhost
  qemu-io -r -f raw -c "read -P 7 1M 1M" nbd://localhost > qemu-io.out
  ! grep failed qemu-io.out'
elsewhere docs/recipes.md "LVM, or a block device, as the destination" test-loop-device
elsewhere docs/recipes.md "Through ssh" test-recipe-ssh
elsewhere docs/recipes.md "A VMM that has no NBD client" recipe-vhost-user
world docs/recipes.md "A backup each night" "head -c 8M /dev/urandom > /srv/vm1.raw
  $proxy" '
  cmp -n 8388608 /srv/vm1.raw copy.raw
  qemu-img info 1.qcow2 > info'

elsewhere docs/operations.md Capacity bench/capacity
# shellcheck disable=SC2016 # there
pivoted='mkdir /var/lib/nbdkit-migrate
  truncate -s 8M vm1 there
  nbdkit -P there.pid file there
  nbdkit -P proxy.pid -U vm1.sock --filter=migrate file vm1 \
    migrate-dir=/var/lib/nbdkit-migrate/vm1
  nbdmigrate "nbd+unix:///?socket=$PWD/vm1.sock" nbd://localhost'
world docs/operations.md "What to alert on" "$pivoted" ''
! grep '^/var/lib' "$tmp/said" || fail "there is no reason for an alert"
world docs/operations.md "What to alert on" "$pivoted
  alarms () { nbdmigrate list --json | jq -e '.relay.up == false'; }
  kill -KILL \$(cat there.pid)
  until_it_is_there alarms" ''
grep '^/var/lib/nbdkit-migrate/vm1$' "$tmp/said" || fail "there is no alert"
world docs/operations.md "What to alert on" "$pivoted
  nbdkit -p 10810 memory 8M
  nbdmigrate --finish=detach nbd+unix:///?socket=\$PWD/vm1.sock nbd://localhost:10810
  alarms () { nbdmigrate list --json | jq -e '.relay.up == false'; }
  kill -KILL \$(cat there.pid)
  until_it_is_there alarms" ''
grep '^/var/lib/nbdkit-migrate/vm1$' "$tmp/said" || fail "there is no alert after a detach"
world docs/operations.md "What to alert on" "$pivoted
  kill -KILL \$(cat proxy.pid)
  rm vm1.sock
  nbdkit -P again.pid -U vm1.sock --filter=migrate file vm1 \
    migrate-dir=/var/lib/nbdkit-migrate/vm1
  is_known () { nbdmigrate list --json | grep place; }
  until_it_is_there is_known" ''
! grep '^/var/lib' "$tmp/said" || fail "there is an alert before a guest has connected"
world docs/operations.md "After a crash of the proxies' host" "$pivoted
  kill -KILL \$(cat proxy.pid)" ''
grep '^place  *nbd://localhost' "$tmp/said" || fail "it is not told where the disk is"

echo "-- all sections"
for file in README.md docs/recipes.md docs/operations.md; do
  while IFS= read -r section; do
    grep -qxF "$file|$section" "$tmp/done" && continue
    # A recipe with a test of its own, which runs its commands.
    test=$(sed -n "/^## $section\$/,/^## /s/^Test: \`\([^\`]*\)\`.*/\1/p" "$SRCDIR/$file" |
             head -n 1)
    [ -n "$test" ] || fail "$file: the commands of '$section' are not run"
    elsewhere "$file" "$section" "$(basename "$test" .sh)"
  done < <(commands "$SRCDIR/$file" | cut -d '|' -f 1 | uniq)
done
