/* SPDX-License-Identifier: BSD-3-Clause */
/* Output to a reader that has stopped reading, comes back, or is gone. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

#include "base/output.h"
#include "cleanup.h"
#include "unit.h"

#define LONG_MS 60000
#define LINE_BYTES 1000
#define LINES (OUTPUT_LIMIT_BYTES / LINE_BYTES) /* more than fit in both */

/* A pipe: [0] is the reader's end.  The other stays open until the end, as the
 * thread may use it.
 */
static void
open_pipe (int fds[2])
{
  CU_ASSERT_EQUAL_FATAL (pipe2 (fds, O_CLOEXEC), 0);
  CU_ASSERT_EQUAL_FATAL (output_open (fds[1]), 0);
}

/* Nothing more goes in. */
static void
fill_pipe (int fd)
{
  static const char bytes[4096] = { 0 };
  const int flags = fcntl (fd, F_GETFL);

  fcntl (fd, F_SETFL, flags | O_NONBLOCK);
  while (write (fd, bytes, sizeof bytes) > 0)
    ;
  fcntl (fd, F_SETFL, flags);
}

/* Of all that waits there. */
static void
skip_filling (FILE *fp)
{
  int c;

  while ((c = fgetc (fp)) == '\0')
    ;
  ungetc (c, fp);
}

static void
put (int fd, enum output_kind kind, unsigned number)
{
  char *text;

  CU_ASSERT_FATAL (
    asprintf (&text, "%d %0*u\n", (int)kind, LINE_BYTES - 3, number) > 0);
  CU_ASSERT_EQUAL (output_put (fd, kind, text), 0);
}

/* Returns its number. */
static int
get (FILE *fp, enum output_kind *kind)
{
  char line[LINE_BYTES + 2] = "";
  unsigned k, number;

  if (fgets (line, sizeof line, fp) == NULL)
    return -1;
  CU_ASSERT_EQUAL (strlen (line), LINE_BYTES);
  CU_ASSERT_EQUAL_FATAL (sscanf (line, "%u %u", &k, &number), 2);
  *kind = k;
  return (int)number;
}

static void
test_order (void)
{
  enum output_kind kind;
  int fds[2], other;
  unsigned i;
  FILE *fp;

  open_pipe (fds);
  other = dup (fds[1]); /* the same pipe: what goes to either stays in order */
  CU_ASSERT_EQUAL (output_open (other), 0);
  for (i = 0; i < 200; ++i)
    put (i % 2 ? other : fds[1], OUTPUT_LINE, i);
  fp = fdopen (fds[0], "r");
  for (i = 0; i < 200; ++i)
    CU_ASSERT_EQUAL (get (fp, &kind), (int)i);
  CU_ASSERT_EQUAL (output_wait (fds[1], LONG_MS, LONG_MS), 0);
  CU_ASSERT_EQUAL (output_dropped (fds[1]), 0);
  fclose (fp);
}

/* What matters least goes first, and of that the oldest. */
static void
test_full (void)
{
  unsigned i, lines = 0, last[OUTPUT_KINDS] = { 0 };
  enum output_kind kind;
  int fds[2], number;
  FILE *fp;

  open_pipe (fds);
  fill_pipe (fds[1]);
  for (i = 0; i < LINES; ++i) {
    put (fds[1], OUTPUT_PROGRESS, 2 * i);
    put (fds[1], i % 8 ? OUTPUT_FRAME : OUTPUT_LINE, 2 * i + 1);
  }
  CU_ASSERT (output_dropped (fds[1]) > 0);
  CU_ASSERT_EQUAL (output_wait (fds[1], 1, 1), -1);
  CU_ASSERT_EQUAL (errno, ETIMEDOUT);

  put (fds[1], OUTPUT_LINE, 2 * i);
  fp = fdopen (fds[0], "r");
  skip_filling (fp);
  do {
    number = get (fp, &kind);
    CU_ASSERT_FATAL (number >= 0);
    /* The very first may have been on its way. */
    CU_ASSERT (number == 0 || (unsigned)number > last[kind]);
    last[kind] = (unsigned)number;
    lines += kind == OUTPUT_LINE;
  } while (number != 2 * (int)i);
  CU_ASSERT_EQUAL (lines, LINES / 8 + (LINES % 8 > 0) + 1);
  CU_ASSERT_EQUAL (last[OUTPUT_PROGRESS], 2 * i - 2);
  CU_ASSERT_EQUAL (output_wait (fds[1], LONG_MS, LONG_MS), 0);
  fclose (fp);
}

/* Nothing but what matters: the oldest goes, the last is there. */
static void
test_full_of_lines (void)
{
  enum output_kind kind;
  int fds[2], number, before = -1;
  unsigned i;
  FILE *fp;

  open_pipe (fds);
  fill_pipe (fds[1]);
  for (i = 0; i <= 2 * LINES; ++i)
    put (fds[1], OUTPUT_LINE, i);
  CU_ASSERT (output_dropped (fds[1]) >= LINES);
  fp = fdopen (fds[0], "r");
  skip_filling (fp);
  while ((number = get (fp, &kind)) != 2 * (int)LINES) {
    CU_ASSERT_FATAL (number > before);
    before = number;
  }
  fclose (fp);
}

/* Slow is not stopped: it is waited for beyond still_ms. */
static void *
read_slowly (void *opaque)
{
  FILE *fp = opaque;

  skip_filling (fp);
  while (fgetc (fp) != '!')
    ;
  return NULL;
}

static void
test_comes_back (void)
{
  pthread_t reader;
  unsigned i;
  int fds[2];
  FILE *fp;

  open_pipe (fds);
  fill_pipe (fds[1]);
  for (i = 0; i < 100; ++i)
    put (fds[1], OUTPUT_LINE, i);
  CU_ASSERT_EQUAL (output_put (fds[1], OUTPUT_LINE, strdup ("!\n")), 0);
  fp = fdopen (fds[0], "r");
  CU_ASSERT_EQUAL (pthread_create (&reader, NULL, read_slowly, fp), 0);
  CU_ASSERT_EQUAL (output_wait (fds[1], LONG_MS, LONG_MS), 0);
  pthread_join (reader, NULL);
  fclose (fp);
}

/* The numbers from 0 on, in their order, until 'last'. */
static void *
read_in_order (void *opaque)
{
  enum output_kind kind;
  FILE *fp = opaque;
  int number;

  skip_filling (fp);
  for (number = 0; get (fp, &kind) == number && number < 100; number++)
    ;
  return (void *)(intptr_t)number;
}

/* What cannot be queued does not overtake what is. */
static void
test_not_queued (void)
{
  char text[LINE_BYTES + 1];
  pthread_t reader;
  unsigned i;
  int fds[2];
  void *last;
  FILE *fp;

  open_pipe (fds);
  fill_pipe (fds[1]);
  for (i = 0; i < 100; ++i)
    put (fds[1], OUTPUT_LINE, i);
  fp = fdopen (fds[0], "r");
  CU_ASSERT_EQUAL (pthread_create (&reader, NULL, read_in_order, fp), 0);
  snprintf (text, sizeof text, "%d %0*u\n", (int)OUTPUT_LINE, LINE_BYTES - 3,
            i);
  CU_ASSERT_EQUAL (output_put_now (fds[1], text), 0);
  pthread_join (reader, &last);
  CU_ASSERT_EQUAL ((intptr_t)last, 100);
  CU_ASSERT_EQUAL (output_dropped (fds[1]), 0);
  fclose (fp);
}

static void
test_gone (void)
{
  int fds[2];

  open_pipe (fds);
  close (fds[0]);
  put (fds[1], OUTPUT_LINE, 0);
  CU_ASSERT_EQUAL (output_wait (fds[1], LONG_MS, LONG_MS), -1);
  CU_ASSERT_EQUAL (errno, EPIPE);
  errno = 0;
  CU_ASSERT_EQUAL (output_put (fds[1], OUTPUT_LINE, strdup ("?")), -1);
  CU_ASSERT_EQUAL (errno, EPIPE);
  errno = 0;
  CU_ASSERT_EQUAL (output_put_now (fds[1], "?"), -1);
  CU_ASSERT_EQUAL (errno, EPIPE);
  CU_ASSERT_EQUAL (output_dropped (fds[1]), 1);
}

/* Somebody else's open file, in their mode: EAGAIN is no error. */
static void
test_not_blocking (void)
{
  enum output_kind kind;
  int fds[2];
  FILE *fp;

  open_pipe (fds);
  fcntl (fds[1], F_SETFL, fcntl (fds[1], F_GETFL) | O_NONBLOCK);
  while (write (fds[1], "", 1) == 1)
    ;
  put (fds[1], OUTPUT_LINE, 7);
  fp = fdopen (fds[0], "r");
  skip_filling (fp);
  CU_ASSERT_EQUAL (get (fp, &kind), 7);
  CU_ASSERT_EQUAL (output_wait (fds[1], LONG_MS, LONG_MS), 0);
  fclose (fp);
}

/* Before it is open, or where it cannot be. */
static void
test_at_once (void)
{
  int fds[2];
  char c;

  CU_ASSERT_EQUAL (pipe2 (fds, O_CLOEXEC | O_NONBLOCK), 0);
  CU_ASSERT_EQUAL (output_put (fds[1], OUTPUT_LINE, strdup ("x")), 0);
  CU_ASSERT_EQUAL (read (fds[0], &c, 1), 1);
  CU_ASSERT_EQUAL (output_wait (fds[1], LONG_MS, LONG_MS), 0);
  CU_ASSERT_EQUAL (output_put (fds[1], OUTPUT_LINE, NULL), 0);
  close (fds[1]);
  CU_ASSERT_EQUAL (output_open (fds[1]), -1);
  CU_ASSERT_EQUAL (errno, EBADF);
  CU_ASSERT_EQUAL (output_put (fds[1], OUTPUT_LINE, strdup ("x")), -1);
  close (fds[0]);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "in order, over two descriptors", test_order },
    { "a full pipe", test_full },
    { "full of what matters", test_full_of_lines },
    { "a reader that comes back", test_comes_back },
    { "what cannot be queued", test_not_queued },
    { "a reader that is gone", test_gone },
    { "a descriptor that does not block", test_not_blocking },
    { "at once", test_at_once },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("output", tests);
}
