/* SPDX-License-Identifier: BSD-3-Clause */
/* Usage: exhaustive small|large
 *
 * All schedules of one, two and three requests, from each beginning, within the
 * bounds below; 'small' takes seconds, 'large' minutes.  Ends with 1 at the
 * first schedule that breaks a promise, and prints it.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "world.h"

/* In chunk 0 there are the blocks 0 and 1, in chunk 1 those from 2 on. */
static const struct op ops[] = {
  { OP_WRITE, 0, 1 }, { OP_WRITE, 1, 1 }, /* the same chunk */
  { OP_WRITE, 0, 3 },                     /* all of it, and crossing */
  { OP_WRITE, 2, 1 },                     /* the neighbour */
  { OP_ZERO, 0, 1 },  { OP_TRIM, 0, 1 },  { OP_FLUSH, 0, 0 },
  { OP_WRITE, 1, 2 }, /* crossing; in the large bounds only */
};

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

static size_t nr_ops = COUNT (ops) - 1;

#define ANY 7u
#define CLEAN (1u << FROM_CLEAN)
#define MIRRORED (1u << FROM_MIRROR)

/* Requests, the beginnings (bits), and what may happen beside them. */
struct family {
  unsigned guests, beginnings;
  struct bounds bounds;
};

#define BOUNDS(t, c, fl, h, m, b, fa)                                          \
  {                                                                            \
    .takes = t, .compares = c, .flushes = fl, .holds = h, .mirrors = m,        \
    .begins = b, .faults = fa                                                  \
  }

/* With a dirty map (R14); its marks are cleared so often. */
#define MAPPED(t, fl, b, fa, cl)                                               \
  {                                                                            \
    .takes = t, .flushes = fl, .begins = b, .faults = fa, .clears = cl         \
  }

/* The first two find most of what can be wrong, at once. */
static const struct family small[] = {
  { 1, ANY, BOUNDS (1, 0, 1, 1, 0, 1, 1) },
  { 2, CLEAN | MIRRORED, BOUNDS (1, 0, 1, 0, 0, 0, 0) },
  { 1, CLEAN, BOUNDS (2, 1, 1, 1, 0, 1, 1) },
  { 1, ANY & ~CLEAN, BOUNDS (2, 0, 1, 1, 0, 1, 1) },
  { 2, MIRRORED, BOUNDS (1, 0, 1, 1, 0, 0, 1) },
  { 3, MIRRORED, BOUNDS (1, 0, 1, 0, 0, 0, 0) },
  { 1, CLEAN | MIRRORED, MAPPED (1, 1, 1, 2, 1) },
};

static const struct family large[] = {
  { 1, ANY, BOUNDS (2, 1, 1, 1, 0, 1, 2) },
  { 2, ANY, BOUNDS (1, 0, 1, 1, 0, 1, 1) },
  { 3, CLEAN | MIRRORED, BOUNDS (1, 0, 1, 1, 0, 0, 0) },
  { 1, ANY, MAPPED (2, 2, 1, 2, 2) },
  { 2, CLEAN | MIRRORED, MAPPED (1, 1, 0, 1, 1) },
};

static void
print_op (const struct op *op)
{
  static const char *const names[] = {
    [OP_WRITE] = "writes",
    [OP_ZERO] = "zeroes",
    [OP_TRIM] = "trims",
    [OP_FLUSH] = "flushes",
  };

  printf (" %s", names[op->kind]);
  if (op->length > 0)
    printf (" %u..%u", op->offset, op->offset + op->length - 1);
  putchar (';');
}

static bool
run (enum beginning beginning, const struct op chosen[GUESTS],
     const struct bounds *bounds, struct found *found)
{
  world_begin (beginning, chosen, bounds);
  if (explore (found))
    return true;
  printf ("exhaustive: %s.  Four blocks, two chunks; %s; guests:", violation,
          beginning_names[beginning]);
  for (unsigned g = 0; g < GUESTS; g++)
    if (chosen[g].kind != OP_NONE)
      print_op (&chosen[g]);
  putchar ('\n');
  return false;
}

/* All choices of so many requests, those before 'first' left out: in which
 * order they are numbered makes no difference.
 */
static bool
run_from (const struct family *f, struct op chosen[GUESTS], unsigned guest,
          size_t first, struct found *found)
{
  if (guest == f->guests) {
    for (unsigned b = 0; b < BEGINNINGS; b++)
      if ((f->beginnings >> b & 1) && !run (b, chosen, &f->bounds, found))
        return false;
    return true;
  }
  for (size_t i = first; i < nr_ops; i++) {
    chosen[guest] = ops[i];
    if (!run_from (f, chosen, guest + 1, i, found))
      return false;
  }
  chosen[guest] = (struct op){ OP_NONE, 0, 0 };
  return true;
}

static bool
run_family (const struct family *f, struct found *sum)
{
  struct op chosen[GUESTS] = { { OP_NONE, 0, 0 } };
  struct found found = { .states = 0 };
  const clock_t begun = clock ();

  if (!run_from (f, chosen, 0, 0, &found))
    return false;
  printf ("%u request%s: %" PRIu64 " states, %" PRIu64
          " steps, %.3g schedules, "
          "%.1f s\n",
          f->guests, f->guests == 1 ? "" : "s", found.states, found.steps,
          found.schedules, (double)(clock () - begun) / CLOCKS_PER_SEC);
  fflush (stdout);
  sum->states += found.states;
  sum->steps += found.steps;
  sum->schedules += found.schedules;
  return true;
}

int
main (int argc, char **argv)
{
  const bool is_large = argc == 2 && strcmp (argv[1], "large") == 0;
  const struct family *families = is_large ? large : small;
  const size_t n = is_large ? COUNT (large) : COUNT (small);
  struct found sum = { .states = 0 };

  if (is_large)
    nr_ops = COUNT (ops);
  if (argc != 2 || (!is_large && strcmp (argv[1], "small") != 0)) {
    fprintf (stderr, "usage: exhaustive small|large\n");
    return 2;
  }
  for (size_t i = 0; i < n; i++)
    if (!run_family (&families[i], &sum))
      return EXIT_FAILURE;
  printf ("exhaustive: %" PRIu64 " states, %" PRIu64 " steps, %.3g schedules; "
          "none loses an acknowledged write\n",
          sum.states, sum.steps, sum.schedules);
  return EXIT_SUCCESS;
}
