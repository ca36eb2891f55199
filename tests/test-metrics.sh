#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# --metrics=FILE: the state while it runs and at the end, in a file that promtool and an
# OpenMetrics parser take, with the names that the manual has; what cannot be written is
# said once and ends nothing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq
file=$tmp/dir/vm1.prom
mkdir "$tmp/dir"

# metric NAME [LABEL]: its value, "" if it is not there.
metric ()
{
  sed -n "s/^nbdmigrate_$1{source=\"[^}]*\"${2:+,$2}} //p" "$file" 2> /dev/null
}

is_metric ()
{
  [ "$(metric "$1" "${3:-}")" = "$2" ]
}

must_be ()
{
  is_metric "$@" || fail "$1 is '$(metric "$1" "${3:-}")', not '$2': $(cat "$file")"
}

# Others find no fault with it.  Both come with packages of the CI's list.
judge ()
{
  if command -v promtool > /dev/null; then
    promtool check metrics < "$file" > "$tmp/promtool.out" 2>&1 ||
      fail "promtool: $(cat "$tmp/promtool.out" "$file")"
    [ ! -s "$tmp/promtool.out" ] || fail "promtool: $(cat "$tmp/promtool.out")"
  elif [ -n "${SKIP_IS_FAILURE:-}" ]; then
    fail "there is no promtool"
  fi
  if /usr/bin/python3 -c 'import prometheus_client' 2> /dev/null; then
    /usr/bin/python3 - "$file" <<'END' || fail "no OpenMetrics: $(cat "$file")"
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(open(sys.argv[1]).read()))
assert all(f.type == "gauge" and f.documentation and f.samples for f in families)
END
  elif [ -n "${SKIP_IS_FAILURE:-}" ]; then
    fail "there is no prometheus_client for Python"
  fi
}

# alone: no file of ours is left beside it.
alone ()
{
  [ "$(ls -A "$tmp/dir")" = vm1.prom ] || fail "in its directory: $(ls -A "$tmp/dir")"
}

start_proxy proxy memory 4M
start_nbdkit destination memory 4M
fill "$(uri proxy)" 50
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 256K

echo "-- a check, which is no migration that goes on"
"$nbdmigrate" --check --metrics="$file" "$(uri proxy)" "$(uri destination)"
[ ! -e "$file" ] || fail "it left metrics: $(cat "$file")"

echo "-- while it runs"
start_migrate --wait --finish=detach --metrics="$file" "$(uri proxy)" \
  "$(uri destination)"
wait_for is_metric phase 1 'phase="ready"'
must_be running 1
must_be phase 0 'phase="bulk"'
must_be disk_bytes 4194304
must_be max_pause_seconds "$(status '.progress.max_pause_ms / 1000')"
must_be exit_status ""
judge
while_running=$(sed -n 's/^# TYPE nbdmigrate_\([^ ]*\) .*/\1/p' "$file")

echo "-- at the end"
"$nbdmigrate" finish "$(uri proxy)"
wait_bg migrator
stop_guest guest
must_be running 0
must_be exit_status 0
must_be phase 1 'phase="done"'
must_be remaining_bytes 0
(($(metric copied_bytes) == $(completed copied_bytes) )) ||
  fail "copied: $(metric copied_bytes)"
judge
alone

echo "-- the names are those of the manual"
{ echo "$while_running"
  sed -n 's/^# TYPE nbdmigrate_\([^ ]*\) .*/\1/p' "$file"; } | sort -u > "$tmp/1"
awk '/^=head1/ { on = $2 == "METRICS" } on && /^=item/' \
    "$SRCDIR/docs/nbdmigrate.pod" |
  grep -o 'C<nbdmigrate_[^>]*' | sed 's/C<nbdmigrate_//' | sort -u > "$tmp/2"
diff "$tmp/1" "$tmp/2" || fail "other names than in the manual"

echo "-- a name that has to be quoted; nothing was begun"
expect_status 1 migrate --metrics="$file" "nbd+unix:///?socket=$tmp/a\"b\\c" \
  "$(uri destination)"
must_be exit_status 1
must_be running 0
judge
alone

# goes_on FILE TEXT: it does, and says the text once.
goes_on ()
{
  must_migrate --finish=detach --incremental --metrics="$1" "$(uri proxy)" \
    "$(uri destination)"
  [ "$(grep -c "writing the metrics to $1: $2" "$tmp/migrate.log")" -eq 1 ] ||
    fail "$1: $(cat "$tmp/migrate.log")"
}

# cannot_be FILE TEXT: nothing is done, by a check neither.
cannot_be ()
{
  local option

  for option in "" --check; do
    # shellcheck disable=SC2086 # maybe no word
    expect_status 1 migrate $option --finish=detach --metrics="$1" "$(uri proxy)" \
      "$(uri destination)"
    if ! grep -q "writing the metrics to $1: $2" "$tmp/migrate.log" ||
        ! grep -q "nothing was done" "$tmp/migrate.log"; then
      fail "$1: $(cat "$tmp/migrate.log")"
    fi
  done
}

echo "-- a slip is found before anything is done"
cannot_be "$tmp/none/vm1.prom" "No such file"
cannot_be "$file/vm1.prom" "Not a directory"
mkdir "$tmp/vm2.prom"
cannot_be "$tmp/vm2.prom" "Is a directory"
mkfifo "$tmp/vm3.prom"
cannot_be "$tmp/vm3.prom" "it is no regular file"
expect_status 2 migrate --metrics= "$(uri proxy)" "$(uri destination)"

echo "-- a symbolic link stays, and the file that it leads to is kept"
ln -s dir/vm1.prom "$tmp/link.prom"
echo old > "$file"
must_migrate --finish=detach --incremental --metrics="$tmp/link.prom" "$(uri proxy)" \
  "$(uri destination)"
[ -L "$tmp/link.prom" ] || fail "the link was replaced"
must_be exit_status 0
alone

if [ "$(id -u)" -eq 0 ] && unshare -m true 2> /dev/null; then
  echo "-- a full file system"
  mkdir "$tmp/full"
  cat > "$tmp/on-full" <<END
#!/bin/sh
mount -t tmpfs -o size=4k nothing $tmp/full || exit 99
echo old > $tmp/full/vm1.prom
"\$@"
status=\$?
cat $tmp/full/* >&2
ls -A $tmp/full >&2
exit \$status
END
  chmod +x "$tmp/on-full"
  in=(unshare -m "$tmp/on-full")
  goes_on "$tmp/full/vm1.prom" "No space left"
  in=()
  [ "$(tail -n 2 "$tmp/migrate.log")" = "old
vm1.prom" ] || fail "$(cat "$tmp/migrate.log")"
fi
