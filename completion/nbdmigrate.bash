# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# Completion of nbdmigrate's command line for bash.
#
# Options, commands and what follows them are taken from 'nbdmigrate --help', so
# that they are those of the program that is run.  Nothing is ever connected to:
# of a disk only the ways to write it are offered, and paths; for a command the
# directories of proxies that run, of which the kernel tells, and a URI only to who
# has begun one.
#
# bash splits words at "=" and ":" as well; here a word is what blanks separate, and
# of each candidate only what follows the last such character is given back.

# The lines of the synopsis that are about a command, or "" for none.
_nbdmigrate_usage ()
{
  awk -v command="$1" '
    /^$/ { exit }
    { sub (/^Usage:/, "      ") }
    $1 == "nbdmigrate" { on = command == "" ? $2 !~ /^[a-z]/ : $2 == command }
    on { print }' <<< "$2"
}

_nbdmigrate_commands ()
{
  sed -nE '/^$/q; s/^(Usage:)? +nbdmigrate ([a-z]+) .*/\2/p' <<< "$1"
}

# "--name" or "--name=" of each option; both if its value may be left out.
_nbdmigrate_options ()
{
  sed -nE 's/^ +(-[a-zA-Z], )?(--[a-z-]+).*/\2 &/p' <<< "$1" |
    while read -r option line; do
      case $line in
      *"$option="*) echo "$option=" ;;
      *"${option}[="*) printf '%s\n' "$option" "$option=" ;;
      *) echo "$option" ;;
      esac
    done
}

# Of a command: those in the synopsis, and those that only the manual has.
_nbdmigrate_command_options ()
{
  _nbdmigrate_usage "$1" "$2" | grep -oE -- '--[a-z-]+=?'
  case $1 in
  status | wait | set | finish | pause | resume | cancel | reopen) printf '%s\n' --control= --export= ;;
  esac
}

# What the value of an option is called: the word behind "=".
_nbdmigrate_placeholder ()
{
  sed -nE "s/^ +(-[a-zA-Z], )?$1\\[?=([A-Za-z|]+).*/\\2/p" <<< "$2"
}

# What a value can be: NAME is of the option or argument, and the second what the
# help calls the value.  "@file" is a path, "@disk" a disk.
_nbdmigrate_values ()
{
  case $1=$2 in
  --finish=* | =MODE) echo "pivot handover detach" ;;
  --converge=* | converge=*) echo "auto mirror throttle off" ;;
  *=FILE | *=SOCKET | *=PROGRAM) echo "@file" ;;
  *=URI) echo "@disk" ;;
  *=[a-z]*) sed 's,|[A-Z][A-Z]*,,g; y,|, ,' <<< "$2" ;;
  esac
}

# What may follow a command: of "[owner=a|b]" owner=a and owner=b, of "[a|b]" a and
# b, of "[x=URI]" x=, of KEY=VALUE what can be set.
_nbdmigrate_arguments ()
{
  local word key value

  while read -r word; do
    case $word in
    -* | SOURCE* | DIR*) ;;
    KEY=VALUE)
      sed -nE 's/^Keys of set: ([^.]*)\..*/\1/p' <<< "$2" | tr -s ', ' '\n' |
        sed 's/$/=/'
      ;;
    MODE) _nbdmigrate_values '' MODE | tr ' ' '\n' ;;
    *=[a-z]*)
      key=${word%%=*}
      for value in $(tr '|' ' ' <<< "${word#*=}"); do
        echo "$key=$value"
      done
      ;;
    *=*) echo "${word%%=*}=" ;;
    [a-z]*) tr '|' '\n' <<< "$word" ;;
    esac
  done < <(_nbdmigrate_usage "$1" "$2" | sed "s/^ *nbdmigrate *$1//" |
             tr -d '[]' | tr -s ' ' '\n')
}

# Paths that begin so, behind a prefix; a directory ends in "/".
_nbdmigrate_paths ()
{
  local path

  compgen "$1" -- "$3" | while read -r path; do
    if [ -d "$path" ]; then
      path+=/
    fi
    echo "$2$path"
  done
}

# Ways to write a disk that begin so, and paths of sockets in a URI.
_nbdmigrate_disks ()
{
  local socket

  case $1 in
  nbd*+unix://*socket=*)
    socket=${1##*socket=}
    _nbdmigrate_paths -f "${1%"$socket"}" "$socket"
    ;;
  *)
    compgen -W 'nbd:// nbds:// nbd+unix:///?socket= nbds+unix:///?socket= local:' \
      -- "$1"
    ;;
  esac
}

# The migrate-dir of each proxy that runs (as 'nbdmigrate list' finds them), which
# begins so.
_nbdmigrate_proxies ()
{
  local dir

  sed -nE 's,^[^/]* (/.*)/control$,\1,p' /proc/net/unix 2> /dev/null |
    while read -r dir; do
      if [[ $dir == "$1"* && -e $dir/lock ]]; then
        echo "$dir"
      fi
    done
}

# SOURCE|DIR of a command that begins so.
_nbdmigrate_source ()
{
  local proxies

  case $1 in
  nbd*:*) _nbdmigrate_disks "$1" ;;
  nbd*)
    _nbdmigrate_disks "$1"
    _nbdmigrate_paths -d '' "$1"
    ;;
  *)
    proxies=$(_nbdmigrate_proxies "$1")
    [ -z "$proxies" ] || echo "$proxies"
    _nbdmigrate_paths -d '' "$1" | grep -vxF -- "${proxies//$'\n'//$'\n'}/" || :
    ;;
  esac
}

# WORD... after a command, without the one that is completed: whether one of them is
# its SOURCE|DIR, and neither an option nor the value of one.
_nbdmigrate_has_source ()
{
  local word value=''

  for word; do
    if [[ $word == -* ]]; then
      value=''
      [[ $word == *=* || $word == --no-wait || $word == --json || $word == --watch ]] ||
        value=1
    elif [ -n "$value" ]; then
      value=''
    else
      return 0
    fi
  done
  return 1
}

# The value of NAME= that begins so: NAME VALUE PLACEHOLDER
_nbdmigrate_value ()
{
  local values

  values=$(_nbdmigrate_values "$1" "$3")
  case $values in
  @file) _nbdmigrate_paths -f "$1=" "$2" ;;
  @disk) _nbdmigrate_disks "$2" | sed "s/^/$1=/" ;;
  *) compgen -P "$1=" -W "$values" -- "$2" ;;
  esac
}

# WORD COMMAND HELP PLACE: whole words that begin so.  PLACE is "first", "source" of a
# command, or "later".
_nbdmigrate_candidates ()
{
  local word=$1 command=$2 help=$3 place=$4 name=${1%%=*}

  case $word in
  --control=*) _nbdmigrate_value "$name" "${word#*=}" SOCKET ;;
  -*=*)
    _nbdmigrate_value "$name" "${word#*=}" \
      "$(_nbdmigrate_placeholder "$name" "$help")"
    ;;
  -*)
    if [ -n "$command" ]; then
      compgen -W "$(_nbdmigrate_command_options "$command" "$help")" -- "$word"
    else
      compgen -W "$(_nbdmigrate_options "$help")" -- "$word"
    fi
    ;;
  *)
    case $command:$place:$word in
    :*)
      [ "$place" != first ] ||
        compgen -W "$(_nbdmigrate_commands "$help")" -- "$word"
      _nbdmigrate_disks "$word"
      ;;
    list:*) ;;
    *:source:*) _nbdmigrate_source "$word" ;;
    *:destination=*) _nbdmigrate_value "$name" "${word#*=}" URI ;;
    *:owner=*) compgen -W "$(_nbdmigrate_arguments "$command" "$help")" -- "$word" ;;
    *:*=*) _nbdmigrate_value "$name" "${word#*=}" "" ;;
    *) compgen -W "$(_nbdmigrate_arguments "$command" "$help")" -- "$word" ;;
    esac
    ;;
  esac
}

_nbdmigrate ()
{
  local line=${COMP_LINE:0:COMP_POINT} help word command='' place=first first
  local cut='' words

  help=$("$1" --help 2> /dev/null)
  word=${line##*[[:blank:]]}
  read -r _ first _ <<< "$line"
  if [ -n "$first" ] && [[ $first != "$word" || $line =~ [[:blank:]]$ ]]; then
    place=later
    if _nbdmigrate_commands "$help" | grep -qxF -- "$first"; then
      command=$first
      read -r -a words <<< "${line%"$word"}"
      _nbdmigrate_has_source "${words[@]:2}" || place=source
    fi
  fi

  # A quoted word is not split.
  if [[ $word == [\'\"]* ]]; then
    word=${word:1}
  elif [[ $COMP_WORDBREAKS == *[=:]* ]]; then
    cut=${word%"${word##*[=:]}"}
  fi
  mapfile -t COMPREPLY < <(_nbdmigrate_candidates "$word" "$command" "$help" \
                             $place | sort -u)
  COMPREPLY=("${COMPREPLY[@]#"$cut"}")
  # What ends so goes on.
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=:/] ]]; then
    compopt -o nospace 2> /dev/null || :
  fi
}

complete -F _nbdmigrate nbdmigrate
