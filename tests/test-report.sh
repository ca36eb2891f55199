#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 240
#
# nbdmigrate-report: a page of a real migration has what its events tell, and plots in
# which something is drawn; strings from the events are never markup; what is no such
# file is refused in one sentence.
#
#   LOOK=1     look at it in headless Chromium, too (make check-report)
#   PICTURES=DIR   and leave the pictures there

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires nbdkit jq gnuplot xmllint

report=$BUILD/nbdmigrate-report
file=$tmp/events.json page=$tmp/page.html

# make_page FILE: it has to be possible, without a word.
make_page ()
{
  "$report" --output="$page" "$1" 2> "$tmp/said" ||
    fail "no page of $1: $(cat "$tmp/said")"
  [ ! -s "$tmp/said" ] || fail "said of $1: $(cat "$tmp/said")"
}

# on_page XPATH: what it comes to on the page.
on_page ()
{
  xmllint --html --nonet --xpath "$1" "$page" 2> /dev/null
}

# must_be XPATH VALUE
must_be ()
{
  local value

  value=$(on_page "$1") || :
  [ "$value" = "$2" ] || fail "$1 is '$value', not '$2'"
}

# refused STATUS TEXT ARGUMENT...: one sentence, and no page.
refused ()
{
  local status=$1 text=$2

  shift 2
  rm -f "$tmp/none.html"
  expect_status "$status" "$report" --output="$tmp/none.html" "$@" \
    > "$tmp/stdout" 2> "$tmp/said"
  [ "$(wc -l < "$tmp/said")" -eq 1 ] || fail "$*: $(cat "$tmp/said")"
  grep -qF -- "$text" "$tmp/said" || fail "$*: $(cat "$tmp/said")"
  if [ -e "$tmp/none.html" ] || [ -s "$tmp/stdout" ]; then
    fail "$*: a page was made"
  fi
}

echo "-- a migration that works"
start_proxy proxy memory 8M
start_nbdkit destination memory 8M
fill "$(uri proxy)" 80
start_guest guest "$(uri proxy)" --initial "$pattern" --rate 1M
must_migrate --finish=detach --rate=2M --background=0 --events="$file" \
  "$(uri proxy)" "$(uri destination)"
stop_guest guest
make_page "$file"
must_be 'string(//h1)' Copied
for id in facts disks rates remaining pause latency passes pauses decisions; do
  must_be "count(//*[@id=\"$id\"])" 1
done
must_be 'count(//figure)' 4
must_be 'count(//svg)' 8
must_be 'count(//script | //img | //link | //iframe)' 0
must_be 'count(//*[@id="passes"]/tbody/tr)' \
  "$(event 'map(select(.event == "phase" and .phase != "done")) | length')"
must_be 'count(//*[@id="decisions"]//li[b])' \
  "$(event 'map(select(.event == "policy")) | length')"
must_be 'count(//*[@id="pauses"]/div[@class="bar"])' \
  "$(event 'map(select(.event == "pause")) | length')"
must_be "count(//code[. = \"$(uri proxy)\"])" 1
for step in hold copy flush check commit release; do
  must_be "count(//*[@id=\"pauses\"]/div[@class=\"key\"][1]//i[@class=\"$step\"])" 1
done

# Each plot by itself is good XML, and a line goes through some points.
awk -v dir="$tmp" '/<svg/ { n++; on = 1; sub (/.*<svg/, "<svg") } on { print > (dir "/" n ".svg") }
                   /<\/svg>/ { on = 0 }' "$page"
for n in {1..8}; do
  xmllint --noout "$tmp/$n.svg" || fail "plot $n is no good XML"
  # shellcheck disable=SC2016
  longest=$(grep -oE "<path stroke='rgb\([^>]*" "$tmp/$n.svg" |
              grep -v "190, 190, 190" | awk '{ print gsub (/[ML]/, "") }' |
              sort -n | tail -n 1)
  ((${longest:-0} >= 2)) || fail "plot $n: nothing is drawn"
done

echo "-- limits that were changed on the way"
start_bg migrator "$nbdmigrate" --finish=detach --rate=64K --max-pause=300ms \
  --events="$file.changed" "$(uri proxy)" "$(uri destination)"
wait_for grep -q '"event":"started"' "$file.changed"
"$nbdmigrate" set "$(uri proxy)" rate=0 max-pause=2s
wait_bg migrator || fail "the migrator ended with exit status $?"
make_page "$file.changed"
must_be 'string(//*[@id="facts"]/div[dt="pause allowed"]/dd)' '300 ms, in the end 2000 ms'
must_be 'string(//*[@id="facts"]/div[dt="rate limit"]/dd)' '64.0 KiB/s, in the end unlimited'
make_page "$file"
must_be 'string(//*[@id="facts"]/div[dt="rate limit"]/dd)' '2.00 MiB/s'

echo "-- it took as long as nbdmigrate says, with all that came before the copying"
jq -c 'if .event == "completed" then .duration_ms = 54321 else . end' "$file" \
  > "$tmp/long.json"
make_page "$tmp/long.json"
must_be 'string(//*[@id="facts"]/div[dt="took"]/dd)' '54.3 s'
make_page "$file"

if [ -n "${LOOK:-}" ]; then
  echo "-- looked at"
  requires chromium python3
  "$SRCDIR/tests/report/look.py" "$page" "${PICTURES:-$tmp}"
fi

echo "-- strings are no markup, and numbers no commands"
evil="</style></svg><script>alert(1)</script><b id='x'>&\"'"
jq -c --arg evil "$evil" 'walk (if type == "string" and
    (IN ("started", "phase", "progress", "policy", "pause", "completed", "lost",
         "reconnected") | not) then $evil else . end)' "$file" > "$tmp/evil.json"
cp "$tmp/evil.json" "$tmp/$(printf 'a\n<script>x"\047.json')"
make_page "$tmp/$(printf 'a\n<script>x"\047.json')"
must_be 'count(//script | //body//*[@id="x"])' 0
must_be "contains(//*[@id=\"decisions\"], \"<script>alert(1)</script><b id='x'>&\")" \
  true
for number in 1e308 -5 null '{}'; do
  jq -c --argjson n "$number" '.time as $t | walk (if type == "number" then $n
    else . end) | .time = $t' "$file" > "$tmp/numbers.json"
  make_page "$tmp/numbers.json"
  must_be 'count(//h1)' 1
done

echo "-- one that was not ended, one that failed, one after another"
sed -n '1,/"progress"/p' "$file" > "$tmp/part.json"
make_page "$tmp/part.json"
must_be 'string(//h1)' "No end"
expect_status 1 migrate --events="$tmp/failed.json" "$(uri proxy)" \
  "nbd+unix:///?socket=$tmp/none.sock"
make_page "$tmp/failed.json"
must_be 'string(//h1)' Failed
must_be "contains(//header, \"$tmp/none.sock\")" true
must_migrate --check --events="$tmp/checked.json" "$(uri proxy)" \
  "$(uri destination)"
make_page "$tmp/checked.json"
must_be 'string(//h1)' Checked
cat "$tmp/failed.json" "$file" > "$tmp/two.json"
make_page "$tmp/two.json"
must_be 'string(//h1)' Copied
cat "$tmp/part.json" "$file" > "$tmp/two.json"
make_page "$tmp/two.json"
must_be 'count(//*[@id="passes"]/tbody/tr)' \
  "$(jq -s 'map(select(.event == "phase" and .phase != "done")) | length' "$file")"

echo "-- what is refused"
refused 2 "FILE is missing"
refused 2 "2 files are too many" "$file" "$file"
refused 2 "there is no option '--nonsense'" --nonsense "$file"
refused 2 "must be the path" --output= "$file"
refused 1 "there is no such file" "$tmp/nothing"
refused 1 "is not a file" "$tmp"
: > "$tmp/empty"
refused 1 "is empty" "$tmp/empty"
head -c -10 "$file" > "$tmp/torn"
refused 1 "ends in the middle of a line" "$tmp/torn"
{ head -c 5000 "$file"; echo; tail -n 1 "$file"; } > "$tmp/broken"
refused 1 "is no event of nbdmigrate" "$tmp/broken"
{ head -c 20000 "$nbdmigrate"; echo; } > "$tmp/foreign"
refused 1 "line 1 is no event of nbdmigrate" "$tmp/foreign"
truncate -s 4K "$tmp/zeroes"
refused 1 "ends in the middle of a line" "$tmp/zeroes"
echo '{"time": 1, "event": "lunch"}' > "$tmp/foreign"
refused 1 "holds no events of nbdmigrate" "$tmp/foreign"
refused 1 "cannot be written: No such file" --output="$tmp/none/page.html" "$file"

echo "-- the manual"
manual=$SRCDIR/docs/nbdmigrate-report.pod
diff <("$report" --help | grep -oE '^  --[a-z]+' | tr -d ' ') \
  <(sed -nE 's/^=item B<(--[a-z]+).*/\1/p' "$manual") ||
  fail "the manual and --help have other options"
