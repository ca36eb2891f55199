#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# docs/troubleshooting.md against the sources: each text that a user may be shown as
# an error has an entry there, and each entry is of a text that there is.
#
# A text is a string in the sources with three words or more, put together where it
# is written in pieces, that is no argument of what makes no errors, and not in a file
# that has no errors (below).  An entry is a line "- `...`" of the page: a part of
# one text or of several.  What a text does not say by itself, a conversion as %s or an
# "…" of an entry, fits anything.
#
#   tests/check-messages.sh [--list]     --list: the texts, and the entries that fit

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

perl -CSD -Mutf8 -w - "$@" <<'END'
use strict;

# What these are given is for nobody, for programs, or says how it goes on.
my %no_error = map { $_ => 1 } qw(
  nbdkit_debug _Static_assert assert printf puts fputs fprintf say_info tell decide decided
  event_policy string json_pack pthread_setname_np strstr strcasestr);
# What is printed of the status and of the progress, why something is done to the guest,
# and who has changed a disk's owner.
my $no_errors = qr{^(migrator/(cli/status-print|show/(metrics-text|progress-text|progress|report.*)|
                     policy/(?!policy\.).*|run/(background|tell|schedule)|report/.*)|
                     nbdkit-plugin/(export/audit|base/asker))\.[ch]$}x;
# The help, what is written into a file, and what libnbd puts before a server's words.
my $no_text = qr/^(Usage:\ |nbdmigrate\ (?:owed|mark)\ |\\nThe\ disk\ is\ at\ |\\nIts\ proxy\ is\ |
                Its\ records\ there\ |
                'nbdmigrate\ (?:reopen\ )?PROXY\ |structured\ error\ server\ message|
                migrate-dir=<DIR>|Move\ a\ disk\ to\ another|nbdkit\ migrate\ filter)/x;

my $list = @ARGV && $ARGV[0] eq "--list";
my $status = 0;

# ---- the page --------------------------------------------------------------

my (%entries, @order);
open my $page, "<", "docs/troubleshooting.md" or die;
while (<$page>) {
  next unless /^- `(.+)`$/;
  my $text = $1;
  if ($entries{$text}) {
    print STDERR "docs/troubleshooting.md:$.: `$text` is there twice\n";
    $status = 1;
  }
  my $pattern = join ".*", map { quotemeta } split /…/, $text, -1;
  # Short ones would fit anything.
  (my $said = $text) =~ s/[^a-z]//gi;
  if (length $said < 5) {
    print STDERR "docs/troubleshooting.md:$.: `$text` says too little\n";
    $status = 1;
  }
  $entries{$text} = { pattern => qr/$pattern/, line => $., used => 0 };
  push @order, $text;
}

# ---- the sources -----------------------------------------------------------

sub has_entry
{
  my ($file, $line, $text, $needs_one) = @_;
  my @fit = grep { $text =~ $entries{$_}{pattern} } @order;

  $entries{$_}{used} = 1 for @fit;
  print "$file:$line: \"$text\"\n", map { "    $_\n" } @fit
    if $list && (@fit || $needs_one);
  return if @fit || !$needs_one;
  print STDERR "$file:$line: \"$text\"\n" .
    "  has no entry in docs/troubleshooting.md: add a part of it to the group that has\n" .
    "  its cause and remedy, as a line - `...`\n";
  $status = 1;
}

# A string as it is written, for people.
sub shown
{
  my ($text) = @_;

  $text =~ s/%%/\x{1}/g;
  $text =~ s/%[-0-9.*+ #]*(?:hh|h|ll|l|z|j)?[a-zA-Z]/…/g;
  $text =~ s/\x{1}/%/g;
  $text =~ s/\\"/"/g;
  $text =~ s/\\n/ /g;
  return $text;
}

my @files = glob "lib/*.[ch] migrator/*/*.[ch] nbdkit-plugin/*/*.[ch]";
for my $file (sort @files) {
  local $/;
  open my $in, "<", $file or die "$file: $!";
  my $source = <$in>;
  my ($line, $start, $text, $name, @calls) = (1, 0);

  while ($source =~ m{\G(/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|
                         \#\ *include[^\n]*|[A-Za-z_]\w*|\s+|.)}gsx) {
    my $token = $1;
    my $lines = $token =~ tr/\n//;

    if ($token =~ /^(\s|\/\*|\/\/)/) {
    } elsif ($token =~ /^"(.*)"$/s) {
      ($start, $text) = ($line, "") unless defined $text;
      $text .= $1;
    } elsif ($token =~ /^PRI[a-z]+[0-9A-Z]*$/) {
      # The conversion that a "%" before it begins.
      ($start, $text) = ($line, "%") unless defined $text;
      $text .= "d";
    } else {
      if (defined $text) {
        my $words = () = shown ($text) =~ /(?:^|(?<=[\s"'(]))[A-Za-z]{2,}(?=[\s,;:.?!)"']|$)/g;
        has_entry ($file, $start, shown ($text), $words >= 3)
          if $file !~ $no_errors && $text !~ $no_text &&
             !grep { $no_error{$_} } @calls;
        undef $text;
      }
      if ($token eq "(") {
        push @calls, $name // "";
      } elsif ($token eq ")") {
        pop @calls;
      } elsif ($token =~ /^[;{}]$/) {
        @calls = ();
      }
      $name = $token =~ /^[A-Za-z_]\w*$/ ? $token : undef;
    }
    $line += $lines;
  }
}

for my $text (@order) {
  next if $entries{$text}{used};
  print STDERR "docs/troubleshooting.md:$entries{$text}{line}: there is no error with " .
    "`$text`\n";
  $status = 1;
}
exit $status;
END
