# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2154 # functions.sh sets them
#
# A machine whose process 1 is systemd (tests/systemd-machine.sh), with the units of
# examples/systemd/ installed as its README says.  Sourced after functions.sh, by tests
# that run as root.
#
#   $machine         what outlives it: etc, var, srv, bin
#   $units           where its units are
#   $tmp/shared      /shared there
#
# It boots test.target; a unit is started with it by a link in $units/test.target.wants.

PATH=$PATH:/usr/sbin:/sbin
requires unshare nsenter ip
requires_root
[ -x /lib/systemd/systemd ] || skip "there is no systemd"
use_disk

machine=$on_disk/machine
units=$machine/etc/systemd/system

# make_machine: nothing runs in it yet.
make_machine ()
{
  local unit

  mkdir -p "$tmp/shared/guest" "$machine"/{bin,filter,srv/nbd,var} \
    "$units/test.target.wants" "$machine"/etc/{nbdkit-migrate,qemu-nbd,sysusers.d}
  ln -s "$tmp/shared" "$machine/shared"
  chmod 755 "$tmp" # the guest is another user
  chmod 777 "$tmp/shared/guest"
  cp "$filter" "$machine/filter/"
  cp "$nbdmigrate" "$referee" "$machine/bin/"
  cp "$SRCDIR"/examples/systemd/*.service "$units/"
  cp "$SRCDIR/examples/systemd/sysusers.conf" "$machine/etc/sysusers.d/nbdkit-migrate.conf"
  echo 'u testguest - "a guest"' > "$machine/etc/sysusers.d/testguest.conf"
  cp "$SRCDIR/examples/systemd/example.conf" "$machine/etc/nbdkit-migrate/vm1.conf"
  ln -sf nbdkit-migrate@.service "$units/nbdkit-migrate@vm1.service"
  echo -e '[Unit]\nDescription=Test' > "$units/test.target"

  # Of a whole system no more than this.
  for unit in /lib/systemd/system/sysinit.target.wants/*; do
    case ${unit##*/} in
    systemd-journald.service | systemd-sysusers.service | systemd-tmpfiles-setup.service) ;;
    *) ln -s /dev/null "$units/${unit##*/}" ;;
    esac
  done
  for unit in systemd-tmpfiles-setup-dev.service systemd-udevd.service systemd-udevd-{control,kernel}.socket; do
    ln -sf /dev/null "$units/$unit"
  done
}

# wants UNIT...: they are started when it boots.
wants ()
{
  local unit

  for unit; do
    ln -s "../$unit.service" "$units/test.target.wants/$unit.service"
  done
}

# What anybody may write to, as the guest, and who serves a destination, are other users.
open_images ()
{
  chmod 777 "$machine/srv/nbd"
  chmod 666 "$machine/srv/nbd/"*
}

# What the README says of guests that something else starts; more of the service comes
# from standard input.
make_guest_unit ()
{
  cat > "$units/guest.service" << END
[Unit]
After=nbdkit-migrate@vm1.service
[Service]
User=testguest
SupplementaryGroups=nbdkit-migrate
$(cat)
END
}

# ---- from outside ----------------------------------------------------------

child_of ()
{
  local pid

  # There is no end of the line.
  read -r pid _ < "/proc/$1/task/$1/children" || [ -n "$pid" ] && echo "$pid"
} 2> /dev/null

is_booted ()
{
  local unshare

  is_running "${pids[machine]}" || fail "the machine does not boot"
  unshare=$(child_of "${pids[machine]}") && init=$(child_of "$unshare") &&
    [ "$(cat "/proc/$init/comm" 2> /dev/null)" = systemd ] &&
    inside systemctl is-active -q test.target 2> /dev/null
}

boot ()
{
  start_bg machine "$SRCDIR/tests/systemd-machine.sh" "$machine"
  WAIT_SECONDS=90 wait_for is_booted
}

# inside COMMAND...: as its root.
inside ()
{
  nsenter --target "$init" --mount --pid --uts --ipc --net --cgroup --root --wd \
    env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@" < /dev/null
}

# is UNIT STATE
is ()
{
  [ "$(inside systemctl is-active "$1")" = "$2" ]
}

property ()
{
  inside systemctl show --value -p "$2" "$1"
}

# shut_down SECONDS: it has so long for that.
shut_down ()
{
  inside systemctl --no-block exit 0
  WAIT_SECONDS=$1 wait_bg machine || fail "the machine ended with exit status $?"
}

pull_the_plug ()
{
  kill_bg machine TERM
  wait_bg machine || :
}
