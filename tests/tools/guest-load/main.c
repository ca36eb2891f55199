/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest of the benchmark.
 *
 *   guest-load fill FILE
 *   guest-load run --uri URI [--rate SIZE] [--depth N] [--request SIZE]
 *       [--span SIZE] [--sequential] [--seed N] [--warm-up MS]
 *       [--windows FILE] [--copy FILE]
 *
 * "fill" makes the file a disk that is judged as load.h and stamps.h say.
 *
 * "run" says "at work" when it is, and writes until SIGTERM.  Then it prints one
 * JSON object: "requests", "bytes", "failed"; "windows", what the file of that
 * name, written before SIGTERM, asks for (times.h); and "wrong_blocks" of the
 * file that should now be the disk.  Exit status 1 if requests failed, blocks are
 * wrong, or the connection was lost.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cleanup.h"
#include "load.h"
#include "stamps.h"
#include "times.h"
#include "units.h"

static struct load load = { .depth = 1, .request = STAMPED, .seed = 1 };
static const char *windows_path, *copy_path;

static void __attribute__ ((noreturn)) usage (void)
{
  fprintf (stderr, "usage: guest-load fill FILE\n"
                   "       guest-load run --uri URI [OPTION ...]\n");
  exit (2);
}

static uint64_t
parse_number (const char *text)
{
  uint64_t n;

  if (units_parse_bytes (text, &n) == -1)
    usage ();
  return n;
}

enum {
  OPT_URI = 256,
  OPT_RATE,
  OPT_DEPTH,
  OPT_REQUEST,
  OPT_SPAN,
  OPT_SEQUENTIAL,
  OPT_SEED,
  OPT_WARM_UP,
  OPT_WINDOWS,
  OPT_COPY,
};

static const struct option options[] = {
  { "uri", required_argument, NULL, OPT_URI },
  { "rate", required_argument, NULL, OPT_RATE },
  { "depth", required_argument, NULL, OPT_DEPTH },
  { "request", required_argument, NULL, OPT_REQUEST },
  { "span", required_argument, NULL, OPT_SPAN },
  { "sequential", no_argument, NULL, OPT_SEQUENTIAL },
  { "seed", required_argument, NULL, OPT_SEED },
  { "warm-up", required_argument, NULL, OPT_WARM_UP },
  { "windows", required_argument, NULL, OPT_WINDOWS },
  { "copy", required_argument, NULL, OPT_COPY },
  { NULL, 0, NULL, 0 },
};

static void
parse_options (int argc, char *argv[])
{
  int opt;

  while ((opt = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (opt) {
    case OPT_URI: load.uri = optarg; break;
    case OPT_RATE: load.rate = parse_number (optarg); break;
    case OPT_DEPTH: load.depth = (unsigned)parse_number (optarg); break;
    case OPT_REQUEST: load.request = parse_number (optarg); break;
    case OPT_SPAN: load.span = parse_number (optarg); break;
    case OPT_SEQUENTIAL: load.sequential = true; break;
    case OPT_SEED: load.seed = parse_number (optarg); break;
    case OPT_WARM_UP: load.warm_up_ms = (unsigned)parse_number (optarg); break;
    case OPT_WINDOWS: windows_path = optarg; break;
    case OPT_COPY: copy_path = optarg; break;
    default: usage ();
    }
  if (optind < argc || load.uri == NULL || load.request == 0 ||
      load.request % STAMPED != 0 || load.depth < 1 || load.depth > MAX_DEPTH)
    usage ();
}

static int
fill (const char *path)
{
  if (stamps_fill (path) == -1) {
    fprintf (stderr, "guest-load: %s: %s\n", path, strerror (errno));
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

static int
run (void)
{
  const int64_t failed = load_run (&load);
  const int64_t wrong = copy_path != NULL ? stamps_wrong (copy_path) : 0;
  CLEANUP_JSON json_t *result = NULL;
  json_t *windows;

  if (failed == -1)
    return EXIT_FAILURE;
  windows = windows_path != NULL ? times_windows (windows_path) : json_array ();
  if (windows == NULL || wrong == -1) {
    fprintf (stderr, "guest-load: cannot use %s\n",
             windows == NULL ? windows_path : copy_path);
    return EXIT_FAILURE;
  }
  result = json_pack ("{s:I, s:I, s:I, s:I, s:o}", "requests",
                      (json_int_t)times_count (), "bytes",
                      (json_int_t)(times_count () * load.request), "failed",
                      (json_int_t)failed, "wrong_blocks", (json_int_t)wrong,
                      "windows", windows);
  json_dumpf (result, stdout, JSON_COMPACT);
  putchar ('\n');
  return failed == 0 && wrong == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
main (int argc, char *argv[])
{
  if (argc == 3 && strcmp (argv[1], "fill") == 0)
    return fill (argv[2]);
  if (argc < 2 || strcmp (argv[1], "run") != 0)
    usage ();
  parse_options (argc - 1, argv + 1);
  return run ();
}
