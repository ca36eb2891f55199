/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "base/output.h"
#include "base/say.h"
#include "base/thread.h"
#include "show/events.h"
#include "show/metrics.h"
#include "show/metrics-text.h"

/* They are read every 15 seconds or less often. */
#define EVERY_S 5

static const char *path; /* as it was given; NULL: there is no such file */
static char *target;     /* the file that it leads to */
static char *beside;     /* what is written, and then renamed to that */
static double begin_time, next_time;
static const char *last_phase;
static bool said;

/* Lock contract: 'lock' guards what follows. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static char *waiting; /* the latest text, owned; the thread takes it */
static bool writing;
static int error; /* errno of the latest that was written, or 0 */

/* ---- the thread -------------------------------------------------------- */

static int
write_all (int fd, const char *text)
{
  size_t left = strlen (text);

  while (left > 0) {
    const ssize_t n = write (fd, text, left);

    if (n == -1 && errno != EINTR)
      return errno;
    if (n > 0) {
      text += n;
      left -= (size_t)n;
    }
  }
  return 0;
}

/* Whoever reads sees a whole one, the one before or this one.  0, or errno. */
static int
replace (const char *text)
{
  const int fd =
    open (beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
  int err;

  if (fd == -1)
    return errno;
  err = write_all (fd, text);
  if (close (fd) == -1 && err == 0)
    err = errno;
  if (err == 0 && rename (beside, target) == -1)
    err = errno;
  if (err != 0)
    unlink (beside);
  return err;
}

static char *
take (void)
{
  char *text;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  while (waiting == NULL)
    pthread_cond_wait (&changed, &lock);
  text = waiting;
  waiting = NULL;
  writing = true;
  return text;
}

static void
note_written (int err)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  writing = false;
  error = err;
  pthread_cond_broadcast (&changed);
}

static void *
writer (void *opaque)
{
  (void)opaque;
  for (;;) {
    CLEANUP_FREE char *text = take ();

    note_written (replace (text));
  }
  return NULL;
}

/* ---- showing ----------------------------------------------------------- */

/* A symbolic link, such as /dev/stdout, is not what is to be replaced.  The
 * caller frees it.
 */
static char *
target_of (const char *given)
{
  char *found = realpath (given, NULL);

  return found != NULL ? found : strdup (given);
}

const char *
metrics_refused (const char *given)
{
  CLEANUP_FREE char *file = target_of (given);
  const char *slash = file != NULL ? strrchr (file, '/') : NULL;
  CLEANUP_FREE char *dir =
    slash == NULL ? strdup (".") : strndup (file, (size_t)(slash - file) + 1);
  struct stat st;

  /* What is renamed would be in place of a device, too. */
  if (stat (given, &st) == 0 && !S_ISREG (st.st_mode))
    return S_ISDIR (st.st_mode) ? strerror (EISDIR) : "it is no regular file";
  if (dir != NULL && access (dir, W_OK | X_OK) == 0)
    return NULL;
  return strerror (errno);
}

int
metrics_open (const char *given)
{
  pthread_condattr_t attr;

  target = target_of (given);
  if (target == NULL ||
      asprintf (&beside, "%s.%d.tmp", target, (int)getpid ()) == -1) {
    free (target);
    errno = ENOMEM;
    return -1;
  }
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&changed, &attr);
  pthread_condattr_destroy (&attr);
  path = given;
  begin_time = event_now ();
  errno = thread_start (writer, NULL);
  if (errno == 0)
    return 0;
  path = NULL;
  free (target);
  free (beside);
  return -1;
}

static void
say_not_written (int err)
{
  if (said)
    return;
  said = true;
  say_error ("writing the metrics to %s: %s; the migration goes on, and it is "
             "tried again without a word",
             path, strerror (err));
}

/* The text is owned from now on. */
static void
hand_over (char *text)
{
  int err = 0;

  if (text != NULL) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
    free (waiting);
    waiting = text;
    err = error;
    pthread_cond_broadcast (&changed);
  }
  if (err != 0)
    say_not_written (err);
}

bool
metrics_are_due (const struct snapshot *s)
{
  return path != NULL && (s->phase != last_phase || event_now () >= next_time ||
                          event_now () < next_time - EVERY_S);
}

void
metrics_show (const struct snapshot *s, const struct account *a)
{
  if (path == NULL || s->source == NULL)
    return;
  last_phase = s->phase;
  next_time = event_now () + EVERY_S;
  hand_over (metrics_text (s, a, -1, begin_time));
}

/* 0, or errno. */
static int
wait_written (void)
{
  struct timespec until;
  int err = 0;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += OUTPUT_STILL_MS / 1000;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  while ((waiting != NULL || writing) && err == 0)
    err = pthread_cond_timedwait (&changed, &lock, &until);
  return err != 0 ? err : error;
}

void
metrics_end (const struct snapshot *s, const struct account *a, int status)
{
  int err;

  if (path == NULL || s->source == NULL)
    return;
  hand_over (metrics_text (s, a, status, begin_time));
  err = wait_written ();
  if (err != 0)
    say_not_written (err);
}
