/* SPDX-License-Identifier: BSD-3-Clause */
/* A notice goes into a pipe that nobody reads as one whole line, or not at all:
 * whoever tells it may hold a lock.
 */

#include <fcntl.h>
#include <string.h>

#include "base/notice.h"
#include "unit.h"

#define PIPE_BYTES 4096 /* one page, the least there is */

static char read_back[2 * PIPE_BYTES];

/* Told while stderr is a pipe that takes so much.  It does not block, so that
 * what would have waited is seen as a part of a line.
 */
static ssize_t
tell (const char *text, unsigned times)
{
  const int saved = dup (STDERR_FILENO);
  ssize_t bytes;
  int fds[2];

  CU_ASSERT_EQUAL_FATAL (pipe2 (fds, O_CLOEXEC | O_NONBLOCK), 0);
  CU_ASSERT_NOT_EQUAL_FATAL (fcntl (fds[1], F_SETPIPE_SZ, PIPE_BYTES), -1);
  dup2 (fds[1], STDERR_FILENO);
  while (times-- > 0)
    notice ("%s", text);
  dup2 (saved, STDERR_FILENO);
  close (saved);
  bytes = read (fds[0], read_back, sizeof read_back);
  close (fds[0]);
  close (fds[1]);
  return bytes;
}

static void
check (ssize_t bytes)
{
  CU_ASSERT_FATAL (bytes > 0);
  CU_ASSERT_EQUAL (read_back[bytes - 1], '\n');
  CU_ASSERT_PTR_EQUAL (memchr (read_back, '\n', (size_t)bytes),
                       read_back + bytes - 1);
}

static void
test_long_line (void)
{
  char text[2 * NOTICE_MAX];

  memset (text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  check (tell (text, 1));
}

static void
test_full_pipe (void)
{
  char text[NOTICE_MAX / 2];

  memset (text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  check (tell (text, 3));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a long line is cut", test_long_line },
    { "what a full pipe does not take is left out", test_full_pipe },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("notices", tests);
}
