# SPDX-License-Identifier: BSD-3-Clause
#
# From the lines of a file (jq -n -R) to what the page is about.  Of the many progress
# events only numbers are kept, and of a file that holds several runs, one after the
# other, all: model.jq takes the last.  What is no event ends it with a sentence.

def refuse($why): "\($why)\n" | halt_error(1);

def number: if type == "number" and . >= -1e18 and . <= 1e18 then . else null end;

def event:
  . as $line
  | try fromjson catch null
  | if type != "object" or (.event | type) != "string" or
       (.time | number | type) != "number"
    then refuse("line \(input_line_number) is no event of nbdmigrate")
    else . end;

inputs
| event
| if .event == "progress" then
    { event, time,
      values: ([ .bytes_per_second, .dirty_bytes_per_second, .remaining_bytes,
                 .predicted_pause_ms, .max_pause_ms,
                 (.guest_latency? // {} | if .reads > 0 then .reads_us, .reads_99_us
                                          else null, null end,
                                          if .writes > 0 then .writes_us, .writes_99_us
                                          else null, null end) ]
               | map(number)) }
  else . end
