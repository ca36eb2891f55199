/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <unistd.h>

#include "base/notice.h"
#include "printable.h"

enum where { TO_STDERR, TO_JOURNAL, TO_SYSLOG };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum where where;

/* What the service manager made stderr, unless somebody has redirected it:
 * JOURNAL_STREAM is "DEVICE:INODE" (systemd.exec(5)).
 */
static bool
is_journal (const struct stat *st)
{
  const char *stream = getenv ("JOURNAL_STREAM");
  uintmax_t device, inode;

  return stream != NULL &&
         sscanf (stream, "%" SCNuMAX ":%" SCNuMAX, &device, &inode) == 2 &&
         device == st->st_dev && inode == st->st_ino;
}

/* Where nbdkit's stderr is after it has gone into the background, and then its
 * errors are in syslog.
 */
static bool
is_null (const struct stat *st)
{
  struct stat null;

  return stat ("/dev/null", &null) == 0 && S_ISCHR (st->st_mode) &&
         S_ISCHR (null.st_mode) && st->st_rdev == null.st_rdev;
}

static void
find_where (void)
{
  struct stat st;

  if (fstat (STDERR_FILENO, &st) == -1 || is_null (&st))
    where = TO_SYSLOG;
  else if (is_journal (&st))
    where = TO_JOURNAL;
}

/* In one piece, beside lines of others.  Not if nobody reads there, as from a
 * pipe or a terminal that was stopped: whoever holds a lock would wait for
 * that.
 */
static void
write_line (const char *prefix, const char *text)
{
  char line[PIPE_BUF + 1]; /* and its end, which is not written */
  const int n = snprintf (line, sizeof line, "%s%s\n", prefix, text);
  struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

  if (poll (&p, 1, 0) == 0)
    return;
  if (write (STDERR_FILENO, line, (size_t)n) == -1)
    return; /* nothing can be told there */
}

void
notice (const char *fmt, ...)
{
  const int before = errno;
  char text[NOTICE_MAX];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  make_printable (text, '?'); /* it may hold what somebody else has said */
  pthread_once (&once, find_where);
  switch (where) {
  case TO_JOURNAL:
    write_line ("<5>nbdkit: notice: ", text); /* LOG_NOTICE */
    break;
  case TO_SYSLOG:
    syslog (LOG_NOTICE, "notice: %s", text);
    break;
  case TO_STDERR:
    write_line ("nbdkit: notice: ", text);
    break;
  }
  errno = before;
}
