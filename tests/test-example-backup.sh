#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# examples/backup/: systemd finds nothing wrong with the units, and what the service does,
# run for two nights, makes consistent copies, the second by changes only; a guest that
# cannot be frozen is no backup.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq setsid

example=$SRCDIR/examples/backup
unit=$example/nbdmigrate-backup@.service

if command -v systemd-analyze > /dev/null; then
  echo "-- systemd-analyze"
  # That the programs are not installed is no fault of theirs.
  mkdir "$tmp/units"
  cp "$example"/*.timer "$tmp/units"
  sed "s|^ExecStart=nbdmigrate |ExecStart=$nbdmigrate |" "$unit" > "$tmp/units/$(basename "$unit")"
  systemd-analyze --man=no verify "$tmp/units"/*
  calendar=$(sed -n 's/^OnCalendar=//p' "$example"/*.timer)
  systemd-analyze calendar "$calendar"
fi

mkdir -p "$tmp/bin" "$tmp/run/nbdkit-migrate/vm1" "$tmp/kept"
cat > "$tmp/bin/virsh" <<END
#!/bin/sh
echo "\$2" >> "$tmp/log"
[ ! -e "$tmp/no-agent" ]
END
chmod +x "$tmp/bin/virsh"
export PATH=$tmp/bin:$PATH XDG_RUNTIME_DIR=$tmp/run

# What the service does, with places of this test.
run_unit ()
{
  local command keep DESTINATION GUEST OPTIONS KEEP status=0

  # shellcheck source=examples/backup/example.conf
  source <(sed 's/^\([A-Z]*\)=\(.*\)/\1='\''\2'\''/' "$example/example.conf")
  export GUEST
  command=$(sed -n 's/^ExecStart=//p' "$unit")
  command="$nbdmigrate ${slow[*]} --events=$tmp/events ${command#nbdmigrate }"
  command=${command/--hook=\/usr\/local\/lib\/nbdmigrate/--hook=$SRCDIR/examples/hook}
  command=${command/\$OPTIONS/$OPTIONS --metrics=$tmp/copy.prom}
  command=${command/\$\{DESTINATION\}/$(uri copy)}
  command=${command//%t/$tmp/run}
  command=${command//%i/vm1}
  # shellcheck disable=SC2086 # systemd splits into words, too
  $command > "$tmp/unit.out" 2> "$tmp/migrate.log" || status=$?
  [ $status -eq 0 ] || return $status
  [ "$(sed -n 's/^ExecStartPost=//p' "$unit")" = "/bin/sh -c '\${KEEP}'" ]
  keep=${KEEP/ssh backup /}
  keep=${keep//\/srv\/backup\/vm1./$tmp/kept/vm1.}
  keep=${keep/--reflink=always/--reflink=auto}
  sh -c "$keep"
}

# copied: bytes, as the metrics tell.
copied ()
{
  sed -n 's/^nbdmigrate_copied_bytes.* //p' "$tmp/copy.prom"
}

start_nbdkit proxy --filter="$filter" memory 16M migrate-dir="$tmp/proxy.dir"
ln -s "$tmp/proxy.sock" "$tmp/run/nbdkit-migrate/vm1/nbd.sock"
truncate -s 16M "$tmp/kept/vm1.raw"
start_nbdkit copy file "$tmp/kept/vm1.raw"
fill "$(uri proxy)" 70
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 512K

echo "-- the first night"
run_unit || fail "exit status $?: $(cat "$tmp/migrate.log")"
grep -q 'it was not detached before): full copy' "$tmp/migrate.log"
[ "$(tr '\n' ' ' < "$tmp/log")" = "domfsfreeze domfsthaw " ] || fail "$(cat "$tmp/log")"
first=$(copied)
verify_cut guest "$(uri copy)" --initial "$pattern"
cmp "$tmp/kept/vm1.raw" "$tmp"/kept/vm1.20*.raw # whatever day it is by now

echo "-- the second night"
guest_goes_on guest 20
rm "$tmp/log"
run_unit || fail "exit status $?: $(cat "$tmp/migrate.log")"
second=$(copied)
echo "$first bytes copied in the first night, $second in the second"
((second < first)) || fail "nothing was saved"
[ "$(tr '\n' ' ' < "$tmp/log")" = "domfsfreeze domfsthaw " ] || fail "$(cat "$tmp/log")"
verify_cut guest "$(uri copy)" --initial "$pattern"

echo "-- a guest that cannot be frozen"
: > "$tmp/no-agent"
rm "$tmp"/kept/vm1.20*.raw
expect_status 4 run_unit
grep -q 'has failed ten times in a row' "$tmp/migrate.log"
! compgen -G "$tmp/kept/vm1.20*.raw" || fail "a version was kept"
guest_goes_on guest 20
stop_guest guest
end_bg proxy
