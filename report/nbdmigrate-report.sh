#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# A page of what nbdmigrate --events=FILE kept; see nbdmigrate-report(1).
#
# jq reads the events and writes the page, gnuplot draws.  make puts the parts of
# both in where this file includes them, so that what is installed is one file.
# What comes from the events reaches the page only through jq's @html, and gnuplot
# only as numbers.

set -euo pipefail
export LC_ALL=C

usage ()
{
  cat <<'END'
Usage: nbdmigrate-report [--output=PAGE] FILE

Make an HTML page of the events that nbdmigrate --events=FILE, or --json, has
written.

  --output=PAGE  write it to this file instead of to standard output
  --help         print this and exit
  --version      print the version and exit

Exit status: 0 done, 1 failed, 2 usage.  See nbdmigrate-report(1).
END
}

say ()
{
  echo "nbdmigrate-report: $*" >&2
}

fail ()
{
  say "$*"
  exit 1
}

bad_usage ()
{
  say "$*; see nbdmigrate-report --help"
  exit 2
}

output='' files=()
while [ $# -gt 0 ]; do
  case $1 in
  --help) usage; exit 0 ;;
  --version) echo "nbdmigrate-report @VERSION@"; exit 0 ;;
  --output=) bad_usage "--output=: it must be the path of a file" ;;
  --output=*) output=${1#*=} ;;
  --output) bad_usage "write --output=PAGE" ;;
  --) shift; files+=("$@"); break ;;
  -?*) bad_usage "there is no option '$1'" ;;
  *) files+=("$1") ;;
  esac
  shift
done
case ${#files[@]} in
0) bad_usage "FILE is missing" ;;
1) file=${files[0]} ;;
*) bad_usage "${#files[@]} files are too many: a page is about one" ;;
esac
[[ $file != -* ]] || file=./$file

for program in jq gnuplot; do
  command -v "$program" > /dev/null || fail "$program is needed, and not installed"
done

[ -e "$file" ] || fail "'$file': there is no such file"
[ -f "$file" ] || fail "'$file' is not a file"
[ -r "$file" ] || fail "'$file' cannot be read"
[ -s "$file" ] || fail "'$file' is empty: it holds no events of nbdmigrate"
[ "$(tail -c 1 -- "$file" | wc -l)" -eq 1 ] ||
  fail "'$file' ends in the middle of a line: it was cut off," \
       "or is just being written"

tmp=$(mktemp -d "${TMPDIR:-/tmp}/nbdmigrate-report.XXXXXX") ||
  fail "there is no place for temporary files"
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

cat > "$tmp/events.jq" <<'END_OF_PART'
@include events.jq
END_OF_PART
cat > "$tmp/model.jq" <<'END_OF_PART'
@include model.jq
END_OF_PART
cat > "$tmp/data.jq" <<'END_OF_PART'
@include data.jq
END_OF_PART
cat > "$tmp/marks.jq" <<'END_OF_PART'
@include marks.jq
END_OF_PART
cat > "$tmp/page.jq" <<'END_OF_PART'
@include page.jq
END_OF_PART
cat > "$tmp/plots.gp" <<'END_OF_PART'
@include plots.gp
END_OF_PART
cat > "$tmp/style.css" <<'END_OF_PART'
@include style.css
END_OF_PART

# A step that fails has written why, or is a mistake of ours.
step ()
{
  "$@" 2> "$tmp/why" ||
    fail "'$file': $(head -n 1 "$tmp/why" | tr -d '\0' | cut -c 1-300)"
}

step jq -n -R -c -f "$tmp/events.jq" -- "$file" > "$tmp/events"
step jq -s -f "$tmp/model.jq" "$tmp/events" > "$tmp/model"
step jq -r -f "$tmp/data.jq" "$tmp/model" > "$tmp/data"
step jq -r -f "$tmp/marks.jq" "$tmp/model" > "$tmp/marks.gp"

# Columns that hold nothing, and a file that holds little, are no mistake: the page
# leaves such a plot out.
(cd "$tmp" && gnuplot -d -e "dir = '.'" plots.gp) 2> "$tmp/gnuplot.log" || :
plots=()
for plot in rates remaining pause latency; do
  for width in narrow:360 wide:900; do
    svg=$tmp/$plot-${width#*:}.svg
    touch "$svg"
    # Into a page: without what only a file of its own needs, and without names,
    # which would be there several times.
    sed -e '/^<?xml/d' -e '/<desc>/d' -e '/<defs>/,/<\/defs>/d' \
      -e "s/^<svg *\$/<svg class=\"${width%:*}\"/" \
      -e 's/ id="[^"]*"//' -e 's/<title>[^<]*<.title>//' "$svg" > "$svg.part"
    plots+=(--rawfile "${plot}_${width%:*}" "$svg.part")
  done
done

step jq -r --arg name "${file##*/}" --arg version "@VERSION@" \
  --rawfile style "$tmp/style.css" "${plots[@]}" -f "$tmp/page.jq" "$tmp/model" \
  > "$tmp/page"

if [ -z "$output" ]; then
  cat "$tmp/page"
else
  { cat "$tmp/page" > "$output"; } 2> "$tmp/why" ||
    fail "'$output' cannot be written: $(sed 's/.*: //;q' "$tmp/why")"
fi
