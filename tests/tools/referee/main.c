/* SPDX-License-Identifier: BSD-3-Clause */
/* The referee: a guest that knows what its disk must hold.
 *
 * `run` is the guest, `verify` judges a disk by the guest's record, `pattern`
 * gives a disk its initial content.  Each prints one JSON object on stdout.
 */

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "guest.h"
#include "pattern.h"
#include "util.h"
#include "verify.h"

static const char usage_text[] =
  "referee run --uri URI [--uri URI ...] --log FILE [--seed N]\n"
  "    [--seconds N] [--until-file PATH] [--ops N]    (or until SIGTERM)\n"
  "    [--depth N] [--connections N] [--rate BYTES]\n"
  "    [--initial zero|any|pattern:SEED:DENSITY] [--cells N] [--align N]\n"
  "    [--resume [--lost-cache]]\n"
  "    [--kinds LETTERS]   read r, write wW, zero zZL, trim t, flush f\n"
  "    [--expect-shutdown] [--expect-disconnect] [--tolerate-errors]\n"
  "referee verify --uri URI [--uri URI ...] --log FILE --mode=final|cut\n"
  "    [--cut-after SECONDS --cut-before SECONDS]\n"
  "    [--initial ...] [--base FILE|URI ...]\n"
  "referee cells --log FILE      (prints number, disk, offset, length)\n"
  "referee pattern --uri URI --seed N [--density PERCENT]\n"
  "Exit: 0 right, 1 it or a server failed, 2 usage, 3 the disk is wrong\n";

enum {
  OPT_URI = 256,
  OPT_LOG,
  OPT_SEED,
  OPT_SECONDS,
  OPT_UNTIL_FILE,
  OPT_OPS,
  OPT_DEPTH,
  OPT_CONNECTIONS,
  OPT_RATE,
  OPT_INITIAL,
  OPT_CELLS,
  OPT_ALIGN,
  OPT_RESUME,
  OPT_LOST_CACHE,
  OPT_KINDS,
  OPT_EXPECT_SHUTDOWN,
  OPT_EXPECT_DISCONNECT,
  OPT_TOLERATE_ERRORS,
  OPT_MODE,
  OPT_CUT_AFTER,
  OPT_CUT_BEFORE,
  OPT_BASE,
  OPT_DENSITY,
};

static const struct option long_options[] = {
  { "uri", required_argument, NULL, OPT_URI },
  { "log", required_argument, NULL, OPT_LOG },
  { "seed", required_argument, NULL, OPT_SEED },
  { "seconds", required_argument, NULL, OPT_SECONDS },
  { "until-file", required_argument, NULL, OPT_UNTIL_FILE },
  { "ops", required_argument, NULL, OPT_OPS },
  { "depth", required_argument, NULL, OPT_DEPTH },
  { "connections", required_argument, NULL, OPT_CONNECTIONS },
  { "rate", required_argument, NULL, OPT_RATE },
  { "initial", required_argument, NULL, OPT_INITIAL },
  { "cells", required_argument, NULL, OPT_CELLS },
  { "align", required_argument, NULL, OPT_ALIGN },
  { "resume", no_argument, NULL, OPT_RESUME },
  { "lost-cache", no_argument, NULL, OPT_LOST_CACHE },
  { "kinds", required_argument, NULL, OPT_KINDS },
  { "expect-shutdown", no_argument, NULL, OPT_EXPECT_SHUTDOWN },
  { "expect-disconnect", no_argument, NULL, OPT_EXPECT_DISCONNECT },
  { "tolerate-errors", no_argument, NULL, OPT_TOLERATE_ERRORS },
  { "mode", required_argument, NULL, OPT_MODE },
  { "cut-after", required_argument, NULL, OPT_CUT_AFTER },
  { "cut-before", required_argument, NULL, OPT_CUT_BEFORE },
  { "base", required_argument, NULL, OPT_BASE },
  { "density", required_argument, NULL, OPT_DENSITY },
  { NULL, 0, NULL, 0 },
};

struct options {
  struct guest_options guest;
  struct verify_options verify;
  struct pattern_options pattern;
  const char *mode;
  bool seed_given;
};

static void __attribute__ ((noreturn)) usage (void)
{
  fputs (usage_text, stderr);
  exit (EXIT_USAGE);
}

/* Seconds with a fraction to microseconds. */
static int64_t
parse_time (const char *what, const char *text)
{
  char *end;
  const double seconds = strtod (text, &end);

  if (end == text || *end != '\0' || seconds < 0)
    die (EXIT_USAGE, "%s: \"%s\" is not a time", what, text);
  return (int64_t)(seconds * 1e6 + 0.5);
}

static void
add_uri (struct options *o, const char *uri)
{
  if (o->guest.disks == LAYOUT_DISKS_MAX)
    die (EXIT_USAGE, "more than %d disks", LAYOUT_DISKS_MAX);
  o->guest.uris[o->guest.disks] = uri;
  o->verify.uris[o->guest.disks] = uri;
  o->pattern.uri = uri;
  o->verify.disks = ++o->guest.disks;
}

/* Options that only `run` has; false if it is none. */
static bool
guest_option (struct guest_options *g, int opt)
{
  switch (opt) {
  case OPT_SECONDS:
    g->seconds = parse_number ("--seconds", optarg);
    return true;
  case OPT_UNTIL_FILE:
    g->until_file = optarg;
    return true;
  case OPT_OPS:
    g->max_ops = parse_number ("--ops", optarg);
    return true;
  case OPT_DEPTH:
    g->depth = parse_number ("--depth", optarg);
    if (g->depth < 1 || g->depth > 1024)
      die (EXIT_USAGE, "--depth: %s is not in 1 to 1024", optarg);
    return true;
  case OPT_CONNECTIONS:
    g->connections = parse_number ("--connections", optarg);
    return true;
  case OPT_RATE:
    g->rate = parse_size ("--rate", optarg);
    return true;
  case OPT_CELLS:
    g->max_cells = parse_number ("--cells", optarg);
    return true;
  case OPT_ALIGN:
    g->align = parse_size ("--align", optarg);
    if (g->align < 1 || g->align > LAYOUT_CELL_MAX)
      die (EXIT_USAGE, "--align: %s is not in 1 to 64K", optarg);
    return true;
  case OPT_RESUME:
    return g->resume = true;
  case OPT_LOST_CACHE:
    return g->lost_cache = true;
  case OPT_KINDS:
    g->kinds = optarg;
    return true;
  case OPT_EXPECT_SHUTDOWN:
    return g->expect_shutdown = true;
  case OPT_EXPECT_DISCONNECT:
    return g->expect_disconnect = true;
  case OPT_TOLERATE_ERRORS:
    return g->tolerate_errors = true;
  }
  return false;
}

static void
other_option (struct options *o, int opt)
{
  struct verify_options *const v = &o->verify;

  switch (opt) {
  case OPT_URI:
    add_uri (o, optarg);
    return;
  case OPT_LOG:
    o->guest.log = v->log = optarg;
    return;
  case OPT_SEED:
    o->guest.seed = o->pattern.seed = parse_number ("--seed", optarg);
    o->seed_given = true;
    return;
  case OPT_INITIAL:
    o->guest.initial = v->initial = optarg;
    return;
  case OPT_MODE:
    o->mode = optarg;
    return;
  case OPT_CUT_AFTER:
    v->cut_after_us = parse_time ("--cut-after", optarg);
    return;
  case OPT_CUT_BEFORE:
    v->cut_before_us = parse_time ("--cut-before", optarg);
    return;
  case OPT_BASE:
    if (v->nr_bases == LAYOUT_DISKS_MAX)
      die (EXIT_USAGE, "more than %d bases", LAYOUT_DISKS_MAX);
    v->bases[v->nr_bases++] = optarg;
    return;
  case OPT_DENSITY:
    o->pattern.density = parse_number ("--density", optarg);
    return;
  default:
    usage ();
  }
}

static void
parse (struct options *o, int argc, char *argv[])
{
  int opt;

  while ((opt = getopt_long (argc, argv, "", long_options, NULL)) != -1)
    if (!guest_option (&o->guest, opt))
      other_option (o, opt);
  if (optind != argc)
    usage ();
}

static int
run (struct options *o)
{
  if (o->guest.log == NULL || o->guest.disks == 0)
    usage ();
  if (!o->seed_given)
    o->guest.seed = content_mix (now_real_us ()) % 1000000000;
  return guest_run (&o->guest);
}

static int
verify (struct options *o)
{
  struct verify_options *const v = &o->verify;

  if (v->log == NULL || v->disks == 0 || o->mode == NULL)
    usage ();
  v->cut = strcmp (o->mode, "cut") == 0;
  if (!v->cut && strcmp (o->mode, "final") != 0)
    die (EXIT_USAGE, "--mode: \"%s\" is neither final nor cut", o->mode);
  if (v->cut && (v->cut_after_us == 0 || v->cut_before_us < v->cut_after_us))
    die (EXIT_USAGE, "--mode=cut needs --cut-after and a later --cut-before");
  return verify_run (v);
}

/* For tests of the referee itself. */
static int
cells (const struct options *o)
{
  struct record r = { 0 };

  if (o->guest.log == NULL)
    usage ();
  record_load (&r, o->guest.log, 0);
  for (size_t i = 0; i < r.layout.n; i++)
    printf ("%zu %" PRIu32 " %" PRIu64 " %" PRIu32 "\n", i,
            r.layout.cells[i].disk, r.layout.cells[i].offset,
            r.layout.cells[i].length);
  record_free (&r);
  return EXIT_GOOD;
}

int
main (int argc, char *argv[])
{
  struct options o = {
    .guest = { .depth = 8, .max_cells = 8192, .align = 1, .kinds = "rwWzZtf" },
    .pattern = { .density = 50 },
  };

  if (argc < 2)
    usage ();
  parse (&o, argc - 1, argv + 1);
  if (strcmp (argv[1], "run") == 0)
    return run (&o);
  if (strcmp (argv[1], "verify") == 0)
    return verify (&o);
  if (strcmp (argv[1], "pattern") == 0)
    return o.pattern.uri == NULL ? EXIT_USAGE : pattern_run (&o.pattern);
  if (strcmp (argv[1], "cells") == 0)
    return cells (&o);
  usage ();
}
