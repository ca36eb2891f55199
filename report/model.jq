# SPDX-License-Identifier: BSD-3-Clause
#
# From the events (jq -s) of the last run to what is shown: times count from its
# beginning, and there are no more samples, passes and decisions than a page can show.

def number: if type == "number" and . >= -1e18 and . <= 1e18 then . else null end;
def text: if type == "string" then . else null end;
def is_end: .event == "completed" or .event == "failed" or .event == "checked";

# The events since the last end but one; and of a run without an end, as of one that
# was killed, nothing belongs to the next.
def last_run:
  . as $all
  | [range(length) | select($all[.] | is_end)] as $ends
  | (if ($ends | length) == 0 then 0
     elif $ends[-1] == ($all | length) - 1 then ($ends[-2] // -1) + 1
     else $ends[-1] + 1 end) as $first
  | $all[$first:] as $rest
  | [range($rest | length) | select($rest[.].event == "started")] as $begins
  | if ($begins | length) > 1 then $rest[$begins[-1]:] else $rest end;

# The middle of long lists is left out.
def some($n):
  if length <= $n then {shown: ., left_out: 0, at: 0}
  else {shown: (.[:$n / 2] + .[length - $n / 2:]), left_out: (length - $n),
        at: ($n / 2)} end;

def mean: map(numbers) | if length > 0 then add / length else null end;
def most: map(numbers) | max;
def last: map(numbers) | .[-1];

# Of the samples of one stretch of time, one.
def one:
  . as $s
  | [ ($s | map(.[0]) | mean) ]
    + [ range(1; 10) as $i | $s | map(.[$i])
        | if $i == 3 then last elif $i == 4 or $i == 7 or $i == 9 then most
          else mean end ];

def thin($n):
  if length <= $n then . else
    . as $s | (length / $n) as $step
    | [range($n) | $s[(. * $step | floor):((. + 1) * $step | floor)] | one]
  end;

def unit($seconds):
  if $seconds < 300 then {name: "seconds", seconds: 1}
  elif $seconds < 4 * 3600 then {name: "minutes", seconds: 60}
  else {name: "hours", seconds: 3600} end;

last_run
| if any(.event == "started" or is_end or .event == "phase" or
         .event == "progress") | not
  then "it holds no events of nbdmigrate\n" | halt_error(1) else . end
| . as $run
| (map(select(.event == "started"))[0] // $run[0]) as $begin
| $begin.time as $t0
| ($run | map(.time) | max) as $t1
| ($run[-1] | if is_end then . else null end) as $ending
| ($run | map(select(.event == "phase"))) as $phases
| ($run | map(select(.event == "pause"))) as $pauses
| {
    begin: $begin,
    ending: $ending,
    begin_time: $t0,
    seconds: ($t1 - $t0),
    unit: unit($t1 - $t0),
    disks: (($ending.disks // $begin.disks // []) | arrays | map(objects)
            | some(40)),
    phases: ([range($phases | length) as $i | $phases[$i]
              | { phase: (.phase | text), pass: (.pass | number),
                  remaining: (.remaining_bytes | number), at: (.time - $t0),
                  seconds: (($phases[$i + 1].time // $t1) - .time) }]
             | map(select(.phase != "done")) | some(200)),
    pauses: ($pauses | map({ at: (((.begin_time | number) // .time) - $t0),
                             ms: (.pause_ms | number),
                             steps: ((.steps_ms | objects) // {} | map_values(number)),
                             remaining: (.remaining_bytes | number),
                             result: (.result | text) })
             | some(40)),
    decisions: ($run | map(select(.event == "policy")
                           | { at: (.time - $t0), decision: (.decision | text),
                               reason: (.reason | text),
                               only: (.explained_only == true),
                               predicted: (.predicted_pause_ms | number),
                               limit: (.max_pause_ms | number),
                               remaining: (.remaining_bytes | number) })
                | some(200)),
    losses: ($run | map(select(.event == "lost" or .event == "reconnected")
                        | { at: (.time - $t0), event: .event,
                            destination: (.destination | text),
                            reason: (.reason | text),
                            again: (.dirty_again_bytes | number),
                            away: (.away_ms | number),
                            attempts: (.attempts | number) })
             | some(100)),
    samples: ($run | map(select(.event == "progress") | [.time - $t0] + .values)
              | thin(600))
  }
