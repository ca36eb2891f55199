# SPDX-License-Identifier: BSD-3-Clause
#
# The page (jq -r; --rawfile style and those of the plots).  All that comes from the
# events goes through @html here, and through nothing else.

def esc: @html;
def known($unknown): if . == null then $unknown else . end;

def fixed($digits):
  if . == null then null else
    (if . < 0 then "-" else "" end) as $sign | fabs
    | pow(10; $digits) as $p | (. * $p + 0.5 | floor) as $n
    | ($n / $p | floor) as $whole
    | $sign + ($whole | tostring) +
      (if $digits == 0 then "" else
         "." + (($n - $whole * $p + $p) | floor | tostring | .[1:]) end)
  end;

# Three digits that mean something.
def short: if . >= 100 then fixed(0) elif . >= 10 then fixed(1) else fixed(2) end;

def bytes:
  def scale($units):
    if . >= 1024 and ($units | length) > 1 then . / 1024 | scale($units[1:])
    else "\(if $units[0] == "B" then fixed(0) else short end) \($units[0])" end;
  if . == null then "not known" else
    scale(["B", "KiB", "MiB", "GiB", "TiB", "PiB"]) end;

def ms: if . == null then "not known" elif . >= 10000 then "\(. / 1000 | short) s"
        else "\(short) ms" end;

def duration:
  if . == null then "not known"
  elif . < 60 then "\(short) s"
  elif . < 3600 then "\(. / 60 | floor) min \(. % 60 | floor) s"
  else "\(. / 3600 | floor) h \(. % 3600 / 60 | floor) min" end;

def date: try (floor | strftime("%Y-%m-%d %H:%M:%S UTC")) catch "at an unknown time";

def number: if type == "number" and . >= -1e18 and . <= 1e18 then . else null end;
def text: if type == "string" then . else null end;

def fact($name): if . == null then empty else
  "<div><dt>\($name | esc)</dt><dd>\(esc)</dd></div>" end;

# To the hundredth: what happened one after the other.
def moment: if . < 1000 then "\(fixed(2)) s" else duration end;
def at: "<time>\(moment | esc)</time>";

# ---- the parts ---------------------------------------------------------------

def disks_moved: if (.disks.shown | length) == 1 and .disks.left_out == 0 then "the disk"
                 else "the disks" end;

def verdict:
  (.ending.finish // .begin.finish | text) as $finish
  | if .ending == null then
      ["bad", "No end", "The events end while nbdmigrate was running: it goes on, or it was killed."]
    elif .ending.event == "checked" then
      ["good", "Checked", "It could be done; nothing was."]
    elif .ending.event == "completed" then
      ["good"] +
      if $finish == "pivot" then
        ["Moved", "The proxy continues at the destination, which is authoritative."]
      elif $finish == "handover" then
        ["Handed over", "The source is fenced off; the destination is authoritative."]
      elif $finish == "detach" then
        ["Copied", "The guest stays at the source, which is authoritative; the destination is a copy of \(disks_moved) as of the pause."]
      else ["Done", "It ended as it should."] end
    else
      (.ending.status | number) as $status
      | ["bad",
         (if $status == 3 then "Cancelled"
          elif $status == 4 then "Not cut over"
          elif $status == 5 then "Outcome not known"
          else "Failed" end),
         (.ending.error | text | known(if $status == 3 then "It was interrupted, or cancelled by request."
                                    else "No reason was told." end))]
    end;

def head: "
<header>
<h1 class=\"\(verdict[0])\">\(verdict[1] | esc)</h1>
<p>\(verdict[2] | esc)</p>
<p class=\"soft\">Began \(.begin_time | date | esc)</p>
</header>";

# What may have been changed on the way.
def limit(f; show):
  [.begin, .ending | objects | f | number | if . == null then null else show end]
  | . as [$first, $last]
  | if $last == null or $last == $first then $first
    elif $first == null then $last
    else "\($first), in the end \($last)" end;

def facts: "
<dl class=\"facts\" id=\"facts\">
\([ ((.ending.duration_ms? | number | if . then . / 1000 else null end) // .seconds
     | duration | fact("took")),
    (((.ending.disk_bytes // .begin.disk_bytes) | number) | if . then bytes else null end
     | fact("disk size")),
    (.ending.copy_bytes? | number | if . then bytes else null end | fact("to be copied")),
    (.ending.expected_ms? | number | if . then "about \(. / 1000 | duration)" else null end
     | fact("would take")),
    (.ending.copied_bytes? | number | if . then bytes else null end | fact("copied")),
    (.ending.zeroed_bytes? | number | if . then bytes else null end | fact("written as zeroes")),
    (.ending.skipped_bytes? | number | if . then bytes else null end | fact("left out")),
    (.ending.passes? | number | fact("passes")),
    (if .ending.event? == "completed" then .ending.pause_ms | number | ms else null end
     | fact("pause")),
    (limit(.max_pause_ms?; ms) | fact("pause allowed")),
    (limit(.rate?; if . == 0 then "unlimited" else "\(bytes)/s" end) | fact("rate limit")),
    (.ending.losses? | number | if . != null and . > 0 then . else null end
     | fact("destination lost")) ] | join("\n"))
</dl>";

def disks: "
<h2>Disks</h2>
<ul id=\"disks\">
\([.disks.shown[]
   | "<li>\(.disk_bytes | number | bytes | esc) from <code>\(.source | text | known("not known") | esc)</code>" +
     " to <code>\(.destination | text | known("not known") | esc)</code></li>"] | join("\n"))
</ul>
\(if .disks.left_out > 0 then "<p class=\"soft\">\(.disks.left_out) more are not shown.</p>"
  else "" end)";

def has_samples($i): any(.samples[]; .[$i] != null and .[$i] > 0);

def plot($id; $title; $says; $narrow; $wide; $there; $missing): "
<h2>\($title | esc)</h2>
\(if $there then
   "<figure id=\"\($id)\" role=\"img\" aria-label=\"\($title | esc)\">\($narrow)\($wide)" +
   "<figcaption>\($says | esc)</figcaption></figure>"
  else "<p class=\"soft\" id=\"\($id)\">\($missing | esc)</p>" end)";

def plots:
  ((.samples | length) < 2) as $too_few
  | "It was over before there was much to measure." as $short
  | plot("rates"; "Speed of the copy and of the guest";
         "Dashed lines: a dirty pass begins. Solid lines: a pause.";
         $rates_narrow; $rates_wide; ($too_few or (has_samples(1) or has_samples(2) | not)) | not;
         $short),
    plot("remaining"; "Left to copy"; "On a logarithmic scale; nothing at all is not drawn.";
         $remaining_narrow; $remaining_wide; ($too_few or (has_samples(3) | not)) | not;
         $short),
    plot("pause"; "Predicted pause";
         "How long the guest's writes would have to wait, as predicted then, and what was allowed.";
         $pause_narrow; $pause_wide;
         ($too_few or (has_samples(4) and has_samples(5) | not)) | not; $short),
    plot("latency"; "How long the guest's requests took";
         "Mean, and what 99 of 100 did not exceed; as the proxy sees them.";
         $latency_narrow; $latency_wide;
         ($too_few or (has_samples(6) or has_samples(8) | not)) | not;
         "No guest made a request while it was looked at.");

def phases: "
<h2>Passes</h2>
<div class=\"scroll\"><table id=\"passes\">
<thead><tr><th>phase</th><th class=\"n\">pass</th><th class=\"n\">began after</th><th class=\"n\">took</th><th class=\"n\">left then</th></tr></thead>
<tbody>
\([.phases.shown[]
   | "<tr><td>\(.phase | known("not known") | esc)</td><td class=\"n\">\(.pass | known("") | esc)</td>" +
     "<td class=\"n\">\(.at | moment | esc)</td><td class=\"n\">\(.seconds | duration | esc)</td>" +
     "<td class=\"n\">\(.remaining | bytes | esc)</td></tr>"] | join("\n"))
</tbody></table></div>
\(if .phases.left_out > 0 then
    "<p class=\"soft\">\(.phases.left_out) more, between the first \(.phases.at) and the last, are not shown.</p>"
  else "" end)";

def steps: ["hold", "copy", "flush", "check", "commit", "release"];

# Only what is longer than nothing, so that the widths are numbers of ours.
def pause:
  .steps as $s
  | ([$s[steps[]] | numbers | select(. > 0)] | add // 0) as $sum
  | "<h3 class=\"soft\">After \(.at | moment | esc): \(.ms | ms | esc), \(.result | known("not known") | esc), \(.remaining | bytes | esc) left to copy</h3>
<div class=\"bar\">\(if $sum > 0 then [steps[] as $name | $s[$name]
     | select(. != null and . > 0)
     | "<span class=\"\($name)\" style=\"width:\(. / $sum * 100 | fixed(2))%\"></span>"]
     | join("") else "" end)</div>
<div class=\"key\">\([steps[] as $name
     | "<span><i class=\"\($name)\"></i>\($name) \($s[$name] | ms | esc)</span>"] | join(""))</div>";

def pauses: "
<h2>Pauses, and what they were made of</h2>
<div id=\"pauses\">
\(if (.pauses.shown | length) == 0 then "<p class=\"soft\">There was none.</p>" else "" end)
\([.pauses.shown[] | pause] | join("\n"))
\(if .pauses.left_out > 0 then "<p class=\"soft\">\(.pauses.left_out) more, between the first \(.pauses.at) and the last, are not shown.</p>"
  else "" end)
</div>";

def decision:
  "<li>\(.at | at)<b>\(.decision | known("not known") | esc)</b>\(if .only then " (explained only)" else "" end): " +
  "\(.reason | known("no reason was told") | esc)" +
  (if .limit != null then
     " <span class=\"soft\">predicted pause \(.predicted | ms | esc), allowed \(.limit | ms | esc), left \(.remaining | bytes | esc)</span>"
   else "" end) + "</li>";

# What is decided again and again is folded: the first and the last are read.
def runs: reduce .[] as $d ([];
  if length > 0 and (.[-1][0].decision == $d.decision)
  then .[-1] += [$d] else . + [[$d]] end);
def folded:
  if length <= 4 then map(decision) | join("\n")
  else (.[0] | decision) +
       "\n<li><details><summary>\(length - 2) more of this kind</summary><ol class=\"log\">" +
       (.[1:-1] | map(decision) | join("\n")) + "</ol></details></li>\n" +
       (.[-1] | decision) end;

def decisions: "
<h2>Decisions, and why</h2>
<ol class=\"log\" id=\"decisions\">
\(.decisions as $d | $d.shown[:$d.at] | runs | map(folded) | join("\n"))
\(if .decisions.left_out > 0
  then "<li class=\"soft\">\(.decisions.left_out) more in between are not shown</li>" else "" end)
\(.decisions as $d | $d.shown[$d.at:] | runs | map(folded) | join("\n"))
</ol>
\(if (.decisions.shown | length) == 0 then "<p class=\"soft\">None was told.</p>" else "" end)";

def losses: if (.losses.shown | length) == 0 then "" else "
<h2>Destinations lost and back</h2>
<ol class=\"log\" id=\"losses\">
\([.losses.shown[]
   | "<li>\(.at | at)<b>\(.event)</b>: \(.destination | known("not known") | esc)" +
     (if .event == "lost" then
        ": \(.reason | known("no reason was told") | esc); \(.again | bytes | esc) to be copied once more"
      else " after \(.away | ms | esc), dialled \(.attempts | known("not known") | esc) times" end) +
     "</li>"] | join("\n"))
</ol>" end;

"<!DOCTYPE html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">
<title>Migration: \(verdict[1] | esc)</title>
<style>
\($style)</style>
</head>
<body>
<main>\(head)\(facts)\(disks)\([plots] | join(""))\(phases)\(pauses)\(decisions)\(losses)
</main>
<footer class=\"soft\">Made by nbdmigrate-report \($version | esc) of \($name | esc)</footer>
</body>
</html>"
