#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# timeout: 120
#
# Completion of the command line offers what `nbdmigrate --help` has, all of it, and
# nothing that the program does not know; and it connects to nothing.

set -euo pipefail
# shellcheck source=tests/functions.sh
source "${SRCDIR:-.}/tests/functions.sh"
requires strace zsh

# Functions of bash's own; what they run is this program.
# shellcheck source=completion/nbdmigrate.bash
source "$SRCDIR/completion/nbdmigrate.bash"
PATH="$(dirname "$nbdmigrate"):$PATH"
nbdmigrate --help > "$tmp/help"
status=0

wrong ()
{
  echo "$*"
  status=1
}

# complete_line LINE: what bash would put in place of the last word, one a line.
complete_line ()
{
  COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
  _nbdmigrate nbdmigrate
  [ ${#COMPREPLY[@]} -eq 0 ] || printf '%s\n' "${COMPREPLY[@]}"
}

# offers LINE WORD...: exactly these, in any order.
offers ()
{
  local line=$1 got want
  shift

  got=$(complete_line "$line" | sort)
  want=$(printf '%s\n' "$@" | sort)
  [ "$got" = "$want" ] ||
    wrong "'$line' offers '${got//$'\n'/ }' and not '${want//$'\n'/ }'"
}

# Paths are offered as well where a proxy can be named.
mkdir "$tmp/empty"
cd "$tmp/empty"
ways=(nbd:// nbds:// "nbd+unix:///?socket=" "nbds+unix:///?socket=" local:)

echo "-- options and commands"
mapfile -t options < <(grep -oE '^ +(-[a-zA-Z], )?--[a-z-]+' "$tmp/help" |
                         grep -oE -- '--[a-z-]+')
[ ${#options[@]} -gt 20 ]
[ "$(complete_line "nbdmigrate --" | tr -d = | sort -u)" = \
    "$(printf '%s\n' "${options[@]}" | sort)" ] ||
  wrong "not all options are offered, or others"
mapfile -t commands < <(sed -nE 's/^(Usage:)? +nbdmigrate ([a-z]+) .*/\2/p' \
                          "$tmp/help" | sort -u)
[ ${#commands[@]} -ge 5 ]
offers "nbdmigrate " "${commands[@]}" "${ways[@]}"
offers "nbdmigrate nbd://host/ " "${ways[@]}"

# knows ARGUMENT...: the program knows the option, whatever else it misses.
knows ()
{
  "$nbdmigrate" "$@" < /dev/null > "$tmp/said" 2>&1 || :
  ! grep -q "there is no option" "$tmp/said"
}

! knows --no-such-option || fail "that there is no such option is not said"
for command in "${commands[@]}"; do
  while read -r option; do
    knows "$command" "${option/%=/=x}" ||
      wrong "$command $option is offered and is not known"
  done < <(complete_line "nbdmigrate $command -")
done

echo "-- values"
# What is written in capitals in the help and is not a quantity has values.
while read -r option value; do
  case $value in
  DURATION | SIZE | N | FD | TIME* | FROM* | SECONDS) continue ;;
  esac
  touch file
  [ -n "$(complete_line "nbdmigrate $option=")" ] ||
    wrong "nothing is offered for $option=$value"
  rm -f file
done < <(sed -nE 's/^ +(-[a-zA-Z], )?(--[a-z-]+)\[?=([A-Za-z|]+).*/\2 \3/p' \
           "$tmp/help")

# The program says itself which values it knows.
for option in finish converge; do
  known_values=$("$nbdmigrate" "--$option=nonsense" nbd://a nbd://b 2>&1 |
                   sed -nE '1s/.*must be ([^;.]*).*/\1/p' | tr -s ', ' '\n' |
                   grep -vx or || :)
  mapfile -t values <<< "$known_values"
  offers "nbdmigrate --$option=" "${values[@]}"
done
offers "nbdmigrate --finish=p" pivot
offers "nbdmigrate --policy=" explain
offers "nbdmigrate --progress=" log

echo "-- what follows a command"
mapfile -t keys < <(sed -nE 's/^Keys of set: ([^.]*)\..*/\1/p' "$tmp/help" |
                      tr -s ', ' '\n' | sed 's/$/=/')
offers "nbdmigrate set /tmp/x " "${keys[@]}"
offers "nbdmigrate set /tmp/x converge=o" off
offers "nbdmigrate finish /tmp/x d" detach
offers "nbdmigrate finish --no" --no-wait
offers "nbdmigrate wait /tmp/x r" ready
offers "nbdmigrate reopen /tmp/x owner=" source destination
offers "nbdmigrate reopen /tmp/x dest" destination=
offers "nbdmigrate reopen /tmp/x destination=nbd:" //
offers "nbdmigrate wait --timeout 5s /tmp/x r" ready
offers "nbdmigrate list " ""
offers "nbdmigrate pause /tmp/x " ""

# Others may run proxies at the same time.
echo "-- a proxy that runs, and a URI for who has begun one"
start_proxy proxy memory 1M
for command in status wait set finish pause resume cancel reopen; do
  complete_line "nbdmigrate $command " > "$tmp/offered"
  grep -qx "$tmp/proxy.dir" "$tmp/offered" ||
    wrong "$command does not offer the proxy that runs"
  ! grep -vE '^/' "$tmp/offered" || wrong "$command offers something else"
  offers "nbdmigrate $command $tmp/pr" "$tmp/proxy.dir"
  offers "nbdmigrate $command nbd" "${ways[@]:0:4}"
done
offers "nbdmigrate finish --timeout 5s $tmp/pr" "$tmp/proxy.dir"

echo "-- paths"
mkdir -p "a directory" run
touch run/disk.sock
offers "nbdmigrate nbd+unix:///?socket=run/d" run/disk.sock
offers "nbdmigrate 'nbd+unix:///?socket=run/d" "nbd+unix:///?socket=run/disk.sock"
offers "nbdmigrate --control=run/d" run/disk.sock
offers "nbdmigrate status ru" run/

echo "-- it connects to nothing"
# The shell itself is looked at, and all that it runs.
cat > "$tmp/complete" <<END
source "$SRCDIR/completion/nbdmigrate.bash"
for COMP_LINE in "nbdmigrate nbd://127.0.0.1:1/" "nbdmigrate --" \
    "nbdmigrate status nbd+unix:///?socket=run/disk.sock" \
    "nbdmigrate set nbd://127.0.0.1:1/ converge="; do
  COMP_POINT=\${#COMP_LINE}
  _nbdmigrate nbdmigrate
done
END
strace -f -qq -o "$tmp/trace" -e trace=connect,sendto,socket \
  env HOME="$tmp" SHELL="$BASH" bash "$tmp/complete"
! grep -E 'connect|AF_INET' "$tmp/trace" || wrong "it connects"

echo "-- zsh"
# A shell of its own on a terminal of its own: what the line is after a Tab.
cat > "$tmp/drive" <<'END'
zmodload zsh/zpty
zpty shell "TERM=dumb zsh -f -i"
tell () { zpty -w shell "$1" }
tell "PS1= PS2=; fpath=($SRCDIR/completion \$fpath); autoload -U compinit"
tell "compinit -u -D; bindkey '^I' complete-word"
tell 'show () { print -r -- "<$BUFFER>"; zle kill-whole-line }'
tell "zle -N show; bindkey '^X^X' show; print READY"
zpty -r -m shell seen '*READY*READY*'
for line; do
  zpty -w -n shell "nbdmigrate $line"$'\t\x18\x18'
  zpty -r -m shell seen '*<*>*'
  print -r -- "${${seen##*<}%%>*}"
done
zpty -d shell
END
export SRCDIR
lines=(--shared-b --finish=p --converge=mi --policy= st "set x max" "set x converge=t"
       "finish x han" "reopen x owner=s" "reopen x destination=nbd+unix:///?socket=run/d"
       "status --js" "status nbd+unix:///?socket=run/d" "finish --no-w" "finish --tim" "wait x re" "nbd+unix:///?socket=run/d" --control=run/d)
zsh -f "$tmp/drive" "${lines[@]}" < /dev/null | tr -d '\r' | sed 's/ *$//' \
  > "$tmp/zsh"
diff - "$tmp/zsh" <<'END' || wrong "zsh completes something else"
nbdmigrate --shared-base=
nbdmigrate --finish=pivot
nbdmigrate --converge=mirror
nbdmigrate --policy=explain
nbdmigrate status
nbdmigrate set x max-pause=
nbdmigrate set x converge=throttle
nbdmigrate finish x handover
nbdmigrate reopen x owner=source
nbdmigrate reopen x destination=nbd+unix:///?socket=run/disk.sock
nbdmigrate status --json
nbdmigrate status nbd+unix:///?socket=run/disk.sock
nbdmigrate finish --no-wait
nbdmigrate finish --timeout=
nbdmigrate wait x ready
nbdmigrate nbd+unix:///?socket=run/disk.sock
nbdmigrate --control=run/disk.sock
END

exit $status
