/* SPDX-License-Identifier: BSD-3-Clause */
/* Why a thread, and no descriptor that does not block: O_NONBLOCK belongs to
 * the open file, which we share with the shell and whatever else writes to that
 * terminal or pipe; they would get EAGAIN.  Opening /proc/self/fd/N again makes
 * an open file of our own, but not of a socket, nor of a pipe or terminal of
 * another user (after su), and of a file it forgets where to append.  A thread
 * can wait for any of them.
 *
 * Nothing ends a write(2) to a terminal that was stopped.  So the thread is
 * waited for within a limit, and is otherwise left to the end of the process.
 *
 * Without memory nothing can be queued.  What is to be said then is written by
 * the caller, but not before what was queued: the last line has to be the last.
 */

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "base/output.h"
#include "base/thread.h"

struct output;

struct item {
  struct item *next;
  struct output *output;
  enum output_kind kind;
  size_t bytes;
  char *text;
};

/* Lock contract: 'lock' guards everything in it and in its outputs. */
struct queue {
  struct queue *next;
  pthread_mutex_t lock;
  pthread_cond_t filled, emptied;
  dev_t dev;
  ino_t ino;
  struct item *first, **last;
  struct item *writing; /* the thread has it: in the list no more */
  size_t bytes;
  uint64_t taken; /* grows whenever the reader took something */
};

struct output {
  struct output *next;
  int fd;
  struct queue *queue;
  int error; /* errno of what could not be written */
  uint64_t dropped;
};

/* Never freed: their threads may be stuck. */
static struct queue *queues;
static struct output *outputs;

static struct output *
find (int fd)
{
  struct output *o = outputs;

  while (o != NULL && o->fd != fd)
    o = o->next;
  return o;
}

static void
free_item (struct item *item)
{
  free (item->text);
  free (item);
}

/* ---- the thread -------------------------------------------------------- */

/* One write(2) if the reader has room, so that a line stays whole where other
 * programs write, too.  The descriptor may be one that does not block: whoever
 * gave it to us chose that.  0, or errno.
 */
static int
write_some (int fd, const char **text, size_t *bytes)
{
  struct pollfd p = { .fd = fd, .events = POLLOUT };
  const ssize_t n = write (fd, *text, *bytes);

  if (n >= 0) {
    *text += n;
    *bytes -= (size_t)n;
    return 0;
  }
  if (errno == EAGAIN)
    return poll (&p, 1, -1) == -1 && errno != EINTR ? errno : 0;
  return errno == EINTR ? 0 : errno;
}

static void
note_taken (struct queue *q)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&q->lock);
  q->taken++;
  pthread_cond_signal (&q->emptied);
}

static int
write_item (const struct item *item)
{
  const char *text = item->text;
  size_t bytes = item->bytes;
  int err = 0;

  while (bytes > 0 && err == 0) {
    const size_t before = bytes;

    err = write_some (item->output->fd, &text, &bytes);
    if (bytes < before)
      note_taken (item->output->queue);
  }
  return err;
}

static struct item *
take_first (struct queue *q)
{
  struct item *item;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&q->lock);
  while (q->first == NULL)
    pthread_cond_wait (&q->filled, &q->lock);
  item = q->first;
  q->first = item->next;
  if (q->first == NULL)
    q->last = &q->first;
  q->bytes -= item->bytes;
  q->writing = item;
  return item;
}

/* Returns whether it is worth while to write it. */
static bool
is_read (struct item *item)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&item->output->queue->lock);
  return item->output->error == 0;
}

static void
note_written (struct queue *q, struct item *item, int err)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&q->lock);
  if (err != 0)
    item->output->error = err;
  q->writing = NULL;
  pthread_cond_signal (&q->emptied);
}

static void *
writer (void *opaque)
{
  struct queue *q = opaque;

  for (;;) {
    struct item *item = take_first (q);

    note_written (q, item, is_read (item) ? write_item (item) : 0);
    free_item (item);
  }
  return NULL;
}

/* ---- opening ----------------------------------------------------------- */

/* NULL with errno set. */
static struct queue *
new_queue (const struct stat *st)
{
  struct queue *q = malloc (sizeof *q);
  pthread_condattr_t attr;
  int err;

  if (q == NULL)
    return NULL;
  *q = (struct queue){
    .next = queues, .dev = st->st_dev, .ino = st->st_ino, .last = &q->first
  };
  pthread_mutex_init (&q->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&q->filled, NULL);
  pthread_cond_init (&q->emptied, &attr);
  pthread_condattr_destroy (&attr);
  err = thread_start (writer, q);
  if (err == 0)
    return queues = q;
  free (q);
  errno = err;
  return NULL;
}

static struct queue *
find_queue (const struct stat *st)
{
  struct queue *q = queues;

  while (q != NULL && (q->dev != st->st_dev || q->ino != st->st_ino))
    q = q->next;
  return q != NULL ? q : new_queue (st);
}

int
output_open (int fd)
{
  struct output *o;
  struct stat st;

  if (find (fd) != NULL)
    return 0;
  if (fstat (fd, &st) == -1)
    return -1;
  o = malloc (sizeof *o);
  if (o == NULL)
    return -1;
  *o = (struct output){ .next = outputs, .fd = fd, .queue = find_queue (&st) };
  if (o->queue == NULL) {
    free (o);
    return -1;
  }
  outputs = o;
  return 0;
}

/* ---- writing ----------------------------------------------------------- */

/* Both with the lock held. */
static void
unlink_item (struct queue *q, struct item **p)
{
  struct item *item = *p;

  *p = item->next;
  if (*p == NULL)
    q->last = p;
  q->bytes -= item->bytes;
  if (item->kind != OUTPUT_FRAME)
    item->output->dropped++;
  free_item (item);
}

static void
append (struct queue *q, struct item *item)
{
  *q->last = item;
  q->last = &item->next;
  q->bytes += item->bytes;
  pthread_cond_signal (&q->filled);
}

/* Of this kind, the oldest first, as long as there is no room. */
static void
drop (struct queue *q, enum output_kind kind, size_t bytes)
{
  struct item **p = &q->first;

  while (*p != NULL && q->bytes + bytes > OUTPUT_LIMIT_BYTES)
    if ((*p)->kind == kind)
      unlink_item (q, p);
    else
      p = &(*p)->next;
}

static void
drop_frame (struct queue *q, const struct output *o)
{
  struct item **p = &q->first;

  while (*p != NULL)
    if ((*p)->kind == OUTPUT_FRAME && (*p)->output == o)
      unlink_item (q, p);
    else
      p = &(*p)->next;
}

static int
enqueue (struct item *item)
{
  struct output *o = item->output;
  struct queue *q = o->queue;
  enum output_kind kind;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&q->lock);
  if (o->error != 0) {
    errno = o->error;
    free_item (item);
    return -1;
  }
  if (item->kind == OUTPUT_FRAME)
    drop_frame (q, o);
  for (kind = 0; kind < OUTPUT_KINDS; ++kind)
    drop (q, kind, item->bytes);
  append (q, item);
  return 0;
}

static int
write_now (int fd, const char *text)
{
  size_t bytes = strlen (text);
  int err = 0;

  while (bytes > 0 && err == 0)
    err = write_some (fd, &text, &bytes);
  errno = err;
  return err == 0 ? 0 : -1;
}

/* Keeps errno. */
static void
note_dropped (struct output *o)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->queue->lock);
  o->dropped++;
}

int
output_put (int fd, enum output_kind kind, char *given)
{
  CLEANUP_FREE char *text = given;
  struct output *o = find (fd);
  struct item *item;

  if (text == NULL)
    return 0;
  if (o == NULL)
    return write_now (fd, text);
  item = malloc (sizeof *item);
  if (item == NULL)
    return kind == OUTPUT_LINE ? output_put_now (fd, text) : 0;
  *item = (struct item){
    .output = o, .kind = kind, .bytes = strlen (text), .text = text
  };
  text = NULL;
  return enqueue (item);
}

/* Rather wait for the reader than lose a message. */
int
output_put_now (int fd, const char *text)
{
  if (output_wait (fd, OUTPUT_STILL_MS, OUTPUT_END_MS) == 0)
    return write_now (fd, text);
  note_dropped (find (fd));
  return -1;
}

uint64_t
output_dropped (int fd)
{
  struct output *o = find (fd);

  if (o == NULL)
    return 0;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&o->queue->lock);
  return o->dropped;
}

/* ---- waiting ----------------------------------------------------------- */

static struct timespec
from_now (int ms)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  t.tv_sec += ms / 1000;
  t.tv_nsec += (long)(ms % 1000) * 1000000;
  if (t.tv_nsec >= 1000000000) {
    t.tv_sec++;
    t.tv_nsec -= 1000000000;
  }
  return t;
}

static bool
is_before (const struct timespec *a, const struct timespec *b)
{
  return a->tv_sec < b->tv_sec ||
         (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static bool
is_busy (const struct queue *q)
{
  return q->first != NULL || q->writing != NULL;
}

/* Until the reader takes something, or that time.  With the lock held; returns
 * whether it did.
 */
static bool
wait_taken (struct queue *q, const struct timespec *until)
{
  const uint64_t taken = q->taken;

  while (q->taken == taken && is_busy (q) &&
         pthread_cond_timedwait (&q->emptied, &q->lock, until) == 0)
    ;
  return q->taken != taken;
}

int
output_wait (int fd, int still_ms, int end_ms)
{
  const struct output *o = find (fd);
  struct timespec still, end;
  struct queue *q;

  if (o == NULL)
    return 0;
  q = o->queue;
  end = from_now (end_ms);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&q->lock);
  do
    still = from_now (still_ms);
  while (is_busy (q) && is_before (&still, &end) && wait_taken (q, &still));
  if (!is_before (&still, &end))
    while (is_busy (q) && wait_taken (q, &end))
      ;
  errno = o->error != 0 ? o->error : is_busy (q) ? ETIMEDOUT : 0;
  return errno == 0 ? 0 : -1;
}
