/* SPDX-License-Identifier: BSD-3-Clause */
/* Usage: exhaustive-relay small|large [N]
 *
 * All schedules of the requests below through the relay, within their bounds,
 * or those of the N-th row; 'small' takes seconds, 'large' some minutes.  Ends
 * with 1 at the first schedule that breaks a promise, and prints it.  On
 * SIGTERM it ends with 3 and says how many states it has seen by then.
 */

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

#define COUNT(array) (sizeof (array) / sizeof (array)[0])

/* clang-format off */
#define W { OP_WRITE, 0, 1 }
#define WW { OP_WRITE, 0, 2 }
#define FUA { OP_FUA, 0, 1 }
#define Z { OP_ZERO, 0, 2 }
#define T { OP_TRIM, 0, 1 }
#define R { OP_READ, 0, 2 }
#define F { OP_FLUSH, 0, 0 }
/* clang-format on */

struct family {
  struct op ops[GUESTS];
  struct bounds bounds;
};

#define BOUNDS(how, faulty, jump, switch)                                      \
  {                                                                            \
    .ending = ENDING_##how, .minimum = 1, .faults = faulty, .jumps = jump,     \
    .switches = switch                                                         \
  }

/* With errors of the server, one or two connections, and a log that two writes
 * fill (64 bytes each are the least that a record takes).
 */
#define ERRORS(how, faulty, error, jump, connections, log)                     \
  {                                                                            \
    .ending = ENDING_##how, .minimum = 1, .faults = faulty, .errors = error,   \
    .jumps = jump, .multi_conn = (connections) > 1, .log_bytes = log           \
  }

/* Those of two requests find most of what can be wrong, at once.  There a
 * thread goes on until it waits; what happens at the server does so in any
 * order.
 */
static const struct family small[] = {
  { { W, F }, BOUNDS (STAY, 1, 2, 0) },
  { { W, W }, BOUNDS (STAY, 1, 2, 0) },
  { { W }, BOUNDS (CLOSE, 1, 2, 0) },
  { { W }, BOUNDS (KILL, 0, 2, 0) },
  { { W, R }, BOUNDS (STAY, 1, 2, 0) },
  { { T }, BOUNDS (STAY, 1, 2, 0) },
  { { W, F, F }, ERRORS (STAY, 0, 1, 0, 1, 0) },
};

/* Where the proxy dies the destination does not: with the log and the cache
 * both gone, so is what was not flushed, as with the power of a disk.
 */
static const struct family large[] = {
  { { FUA }, BOUNDS (STAY, 1, 3, ANY_SWITCHES) },
  { { W }, BOUNDS (STAY, 2, 4, ANY_SWITCHES) },
  { { W, F }, BOUNDS (CLOSE, 1, 2, 0) },
  { { Z }, BOUNDS (CLOSE, 1, 2, 0) },
  { { W }, BOUNDS (CLOSE, 1, 3, ANY_SWITCHES) },
  { { W }, BOUNDS (KILL, 0, 3, ANY_SWITCHES) },
  { { W, F }, BOUNDS (STAY, 1, 3, 1) },
  { { W, F }, BOUNDS (KILL, 0, 3, 0) },
  { { WW, W }, BOUNDS (STAY, 1, 3, 1) },
  { { WW, Z }, BOUNDS (STAY, 1, 3, 0) },
  { { W, T }, BOUNDS (STAY, 1, 3, 0) },
  { { WW, R }, BOUNDS (STAY, 1, 3, 1) },
  { { W, FUA }, BOUNDS (STAY, 1, 3, 0) },
  { { W, W, F }, BOUNDS (STAY, 1, 3, 0) },
  { { W, R, F }, BOUNDS (STAY, 1, 3, 0) },
  { { W, F }, ERRORS (STAY, 1, 1, 3, 1, 0) },
  { { W, F, F }, ERRORS (STAY, 1, 1, 2, 1, 0) },
  { { W, W, F }, ERRORS (STAY, 1, 1, 3, 1, 0) },
  { { W, R }, ERRORS (STAY, 1, 2, 3, 1, 0) },
  { { FUA, F }, ERRORS (STAY, 1, 1, 3, 1, 0) },
  { { W, F }, ERRORS (CLOSE, 1, 1, 2, 1, 0) },
  { { W, F }, ERRORS (STAY, 1, 0, 3, 2, 0) },
  { { W, W }, ERRORS (STAY, 1, 0, 3, 2, 0) },
  { { W, F, F }, ERRORS (STAY, 0, 1, 1, 2, 0) },
  { { W, W, W }, ERRORS (STAY, 1, 0, 3, 1, 64) },
  { { W, W, W }, ERRORS (STAY, 0, 1, 3, 1, 128) },
};

static void
print_op (const struct op *op)
{
  static const char *const names[] = {
    [OP_WRITE] = "writes", [OP_FUA] = "writes with FUA", [OP_ZERO] = "zeroes",
    [OP_TRIM] = "trims",   [OP_READ] = "reads",          [OP_FLUSH] = "flushes",
  };

  printf (" %s", names[op->kind]);
  if (op->length > 0)
    printf (" %u..%u", op->offset, op->offset + op->length - 1);
  putchar (';');
}

static void
print_family (const struct family *f)
{
  static const char *const endings[] = {
    [ENDING_STAY] = "the proxy stays",
    [ENDING_CLOSE] = "the proxy stops and starts again",
    [ENDING_KILL] = "the proxy dies and starts again",
  };

  printf ("%s; guests:", endings[f->bounds.ending]);
  for (unsigned g = 0; g < GUESTS; g++)
    if (f->ops[g].kind != OP_NONE)
      print_op (&f->ops[g]);
}

static struct found found; /* in the row that is under way */

/* A row that takes longer than anybody waits.  Whatever was interrupted,
 * nothing of it is used but the number.
 */
static void
end_early (int sig)
{
  static char text[] = "exhaustive-relay: ended after                      "
                       "states, and nothing was found until then\n";
  char *digit = strstr (text, "                      ") + 21;
  uint64_t n = found.states;

  (void)sig;
  do {
    *--digit = (char)('0' + n % 10);
    n /= 10;
  } while (n > 0);
  if (write (STDOUT_FILENO, text, sizeof text - 1) == -1)
    _exit (EXIT_FAILURE);
  _exit (3);
}

/* On a stack of its own: those of the threads here are small. */
static void
listen_for_end (void)
{
  static char bytes[65536];
  const stack_t stack = { .ss_sp = bytes, .ss_size = sizeof bytes };
  const struct sigaction action = {
    .sa_handler = end_early,
    .sa_flags = SA_ONSTACK,
  };

  if (sigaltstack (&stack, NULL) == -1 ||
      sigaction (SIGTERM, &action, NULL) == -1)
    perror ("exhaustive-relay: SIGTERM");
}

static bool
run (const struct family *f, struct found *sum)
{
  const clock_t begun = clock ();

  found = (struct found){ .states = 0 };
  world_begin (f->ops, &f->bounds);
  if (!explore (&found)) {
    printf ("exhaustive-relay: %s.  ", violation);
    print_family (f);
    putchar ('\n');
    return false;
  }
  print_family (f);
  printf (" %" PRIu64 " states, %.3g schedules, %.1f s\n", found.states,
          found.schedules, (double)(clock () - begun) / CLOCKS_PER_SEC);
  fflush (stdout);
  sum->states += found.states;
  sum->schedules += found.schedules;
  return true;
}

int
main (int argc, char **argv)
{
  const bool is_large = argc > 1 && strcmp (argv[1], "large") == 0;
  const struct family *families = is_large ? large : small;
  const size_t n = is_large ? COUNT (large) : COUNT (small);
  const size_t only = argc == 3 ? strtoul (argv[2], NULL, 10) : 0;
  struct found sum = { .states = 0 };

  if (argc < 2 || argc > 3 || only > n ||
      (!is_large && strcmp (argv[1], "small") != 0)) {
    fprintf (stderr, "usage: exhaustive-relay small|large [N]\n");
    return 2;
  }
  listen_for_end ();
  for (size_t i = 0; i < n; i++)
    if ((only == 0 || only == i + 1) && !run (&families[i], &sum))
      return EXIT_FAILURE;
  printf ("exhaustive-relay: %" PRIu64 " states, %.3g schedules; none loses "
          "what was acknowledged\n",
          sum.states, sum.schedules);
  return EXIT_SUCCESS;
}
