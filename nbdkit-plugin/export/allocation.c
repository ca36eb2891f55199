/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "allocation.h"
#include "cleanup.h"
#include "base/clock.h"
#include "base/nbdkit-version.h"
#include "export.h"
#include "nbd-limits.h"
#include "place.h"
#include "protocol.h"

/* After the lease that the question is about, never from what was said before
 * (R1).  The plugin is asked about so much at a time, and goes on with what it
 * likes to say beyond it; an answer is given after at most so many ranges and,
 * if there is something to say by then, so many milliseconds.
 */
#define STEP_BYTES (UINT64_C (256) << 20)
#define RANGES_MAX (PROTOCOL_EXTENTS_MAX / 2)
#define ANSWER_MS 20

_Static_assert(STEP_BYTES < NBD_STATUS_MAX, "it is one request to the plugin");

enum state {
  STATE_IDLE,
  STATE_ASKED,    /* for the thread */
  STATE_AT_WORK,  /* the plugin has it */
  STATE_ANSWERED, /* for the session */
};

/* What the thread is to do. */
struct job {
  uint64_t session;
  uint64_t changes; /* of this struct; another number: another job */
  bool wanted;
  uint64_t question;
  uint64_t offset, length;
};

struct allocation {
  struct export *export;

  pthread_mutex_t lock; /* for all that follows, up to the thread's own */
  pthread_cond_t changed;
  pthread_t thread;
  bool started, stopping, ended;
  bool holds_cache; /* constant */
  enum state state;
  struct job job;
  struct allocation_answer answer;
  uint64_t refused_in; /* the session in which no context could be had */

  /* The thread's own. */
  nbdkit_next *context; /* NULL: not open */
  uint64_t opened_for;  /* the session it was opened for */
  uint64_t flushed_for; /* the session that has flushed */
};

/* ---- What cannot be believed ------------------------------------------- */

static int
find_cache (struct dl_phdr_info *info, size_t size, void *opaque)
{
  const char *base = strrchr (info->dlpi_name, '/');

  (void)size;
  (void)opaque;
  return base != NULL && strcmp (base, "/nbdkit-cache-filter.so") == 0;
}

/* nbdkit does not tell which filters there are, the dynamic linker does.  This
 * one passes on what the plugin says of data that is in the cache only, and can
 * be told not to obey a flush.
 */
static bool
holds_cache (void)
{
  return dl_iterate_phdr (find_cache, NULL) != 0;
}

/* Why nothing can be said of this export, or NULL.  The lock must be held. */
static const char *
why_unknown (const struct allocation *a)
{
  const struct export *e = a->export;

  if (tracker_place (e->tracker, OWNER_SOURCE) != PLACE_LOCAL)
    return NULL;
  if (e->backend == NULL)
    return "the plugin has not been opened";
  if (!local_is_shared (&e->local) && *e->name != '\0' &&
      !NBDKIT_HAS_SHARED_NAMES)
    return "with this version of nbdkit only the default export can be asked";
  if (a->refused_in == a->job.session)
    return "the plugin could not be opened once more";
  return NULL;
}

/* ---- Asking the plugin; in the thread, without the lock ---------------- */

static void
close_context (struct allocation *a)
{
  if (a->context == NULL)
    return;
  a->context->finalize (a->context);
  nbdkit_next_context_close (a->context);
  a->context = NULL;
}

/* A context that belongs to no connection.  It may write, because what lies
 * below may have to write to flush.
 */
static int
open_context (struct allocation *a)
{
  const struct export *e = a->export;

  a->context =
    nbdkit_next_context_open (e->backend, e->readonly, e->name, true);
  if (a->context == NULL)
    return -1;
  if (a->context->prepare (a->context) == 0 &&
      a->context->get_size (a->context) != -1 &&
      a->context->can_flush (a->context) != -1 &&
      a->context->can_extents (a->context) != -1)
    return 0;
  close_context (a);
  return -1;
}

/* The context to ask, until plugin_end; NULL: there is none. */
static nbdkit_next *
plugin_begin (struct allocation *a, const struct job *q)
{
  struct export *e = a->export;

  if (local_is_shared (&e->local))
    return local_begin (&e->local, NULL);
  if (a->context != NULL && a->opened_for != q->session)
    close_context (a);
  if (a->context == NULL && open_context (a) == -1) {
    pthread_mutex_lock (&a->lock);
    a->refused_in = q->session; /* do not try for each question */
    pthread_mutex_unlock (&a->lock);
    return NULL;
  }
  a->opened_for = q->session;
  return a->context;
}

static void
plugin_end (struct allocation *a, nbdkit_next *used)
{
  if (used != NULL && used != a->context)
    local_end (&a->export->local, NULL, used);
}

static int
flush_once (struct allocation *a, nbdkit_next *next, const struct job *q,
            int *err)
{
  struct flush_entry entry;
  int r;

  if (a->flushed_for == q->session)
    return 0;
  r = local_flush_own (a->export, next, &entry, err);
  flushes_drop (&a->export->local.flushes, &entry);
  if (r == 0)
    a->flushed_for = q->session;
  return r;
}

/* Append the ranges that read as zeroes, cut at 'limit'; the others only move
 * the end.
 */
static int
add_piece (struct allocation_answer *answer, uint64_t limit, uint64_t offset,
           uint64_t length, bool zero)
{
  const uint64_t end = offset + length;
  const uint64_t cut = zero && end > limit ? limit : end;

  if (offset != answer->end || (zero && offset >= limit))
    return 0; /* behind the question */
  if (zero && extents_append (&answer->zero, offset, cut - offset, false) == -1)
    return -1;
  answer->end = cut;
  return 0;
}

static int
add_plugin_extents (struct allocation_answer *answer, uint64_t limit,
                    const struct nbdkit_extents *extents)
{
  const size_t n = nbdkit_extents_count (extents);
  int r = 0;

  for (size_t i = 0; i < n && r == 0 && answer->end < limit; i++) {
    const struct nbdkit_extent x = nbdkit_get_extent (extents, i);

    if (answer->zero.n < RANGES_MAX)
      r = add_piece (answer, limit, x.offset, x.length,
                     (x.type & NBDKIT_EXTENT_ZERO) != 0);
  }
  return r;
}

/* One request about the range from answer->end to the limit, or a part of it.
 * -1 with *err.
 */
static int
ask_plugin (struct allocation *a, const struct job *q,
            struct allocation_answer *answer, int *err)
{
  const uint64_t limit = q->offset + q->length;
  const uint64_t left = limit - answer->end;
  nbdkit_next *next = plugin_begin (a, q);
  struct nbdkit_extents *extents = NULL;
  int r = -1;

  *err = EIO;
  if (next != NULL && flush_once (a, next, q, err) == 0)
    extents = nbdkit_extents_new (answer->end, a->export->disk_bytes);
  if (extents != NULL)
    r = next->extents (next, left < STEP_BYTES ? left : STEP_BYTES, answer->end,
                       0, extents, err);
  plugin_end (a, next);
  if (r == 0)
    r = add_plugin_extents (answer, limit, extents);
  if (extents != NULL)
    nbdkit_extents_free (extents);
  return r;
}

/* ---- Asking a remote place ---------------------------------------------- */

struct remote {
  struct allocation_answer *answer;
  uint64_t limit;
};

static int
add_remote (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  struct remote *r = opaque;

  if (r->answer->zero.n == RANGES_MAX)
    return 0;
  return add_piece (r->answer, r->limit, offset, length,
                    (flags & NBDKIT_EXTENT_ZERO) != 0) == -1
           ? ENOMEM
           : 0;
}

/* The caller has entered the place. */
static int
ask_relay (struct allocation *a, struct relay *relay, const struct job *q,
           struct allocation_answer *answer)
{
  struct remote r = { answer, q->offset + q->length };

  if (a->flushed_for != q->session && relay_flush (relay, NULL, NULL) == -1)
    return -1;
  a->flushed_for = q->session;
  return relay_block_status (relay, r.limit - answer->end, answer->end,
                             add_remote, &r, NULL);
}

static int
ask_remote (struct allocation *a, unsigned place, const struct job *q,
            struct allocation_answer *answer, int *err)
{
  int r;

  *err = ESHUTDOWN;
  if (!place_enter (a->export, place))
    return -1;
  r = ask_relay (a, a->export->places[place].relay, q, answer);
  *err = errno;
  place_leave (a->export, place);
  return r;
}

/* ---- The thread -------------------------------------------------------- */

/* One request to the place that is the session's source. */
static int
ask_source (struct allocation *a, const struct job *q,
            struct allocation_answer *answer, int *err)
{
  const unsigned place = tracker_place (a->export->tracker, OWNER_SOURCE);

  return place == PLACE_LOCAL ? ask_plugin (a, q, answer, err)
                              : ask_remote (a, place, q, answer, err);
}

/* An error makes data of the whole range: it is read then, and says more. */
static void
work (struct allocation *a, const struct job *q,
      struct allocation_answer *answer)
{
  const uint64_t limit = q->offset + q->length;
  const int64_t until_ms = clock_ms () + ANSWER_MS;
  uint64_t before;
  int err = 0;

  *answer = (struct allocation_answer){ EXTENTS_EMPTY, q->offset };
  do {
    before = answer->end;
    if (ask_source (a, q, answer, &err) == -1) {
      nbdkit_debug ("migrate: export \"%s\": what reads as zeroes cannot be "
                    "asked: %s; it is copied as data",
                    a->export->name, strerror (err));
      extents_clear (&answer->zero);
      answer->end = limit;
    }
  } while (answer->end > before && answer->end < limit &&
           answer->zero.n < RANGES_MAX && clock_ms () < until_ms);
  if (answer->end == q->offset) /* it said nothing */
    answer->end = limit;
}

/* The lock must be held, and is dropped meanwhile. */
static void
serve (struct allocation *a)
{
  const struct job q = a->job;
  struct allocation_answer answer;

  a->state = STATE_AT_WORK;
  pthread_mutex_unlock (&a->lock);
  work (a, &q, &answer);
  pthread_mutex_lock (&a->lock);
  if (a->job.changes != q.changes) { /* nobody wants it any more */
    extents_free (&answer.zero);
    a->state = a->job.wanted ? STATE_ASKED : STATE_IDLE;
    return;
  }
  extents_free (&a->answer.zero);
  a->answer = answer;
  a->state = STATE_ANSWERED;
  pthread_cond_broadcast (&a->changed);
}

static void *
allocation_loop (void *opaque)
{
  struct allocation *a = opaque;

  pthread_mutex_lock (&a->lock);
  while (!a->stopping) {
    if (a->state == STATE_ASKED)
      serve (a);
    else if (a->context != NULL && a->opened_for != a->job.session) {
      pthread_mutex_unlock (&a->lock);
      close_context (a);
      pthread_mutex_lock (&a->lock);
    }
    else
      pthread_cond_wait (&a->changed, &a->lock);
  }
  pthread_mutex_unlock (&a->lock);
  close_context (a);
  pthread_mutex_lock (&a->lock);
  a->ended = true;
  pthread_cond_broadcast (&a->changed);
  pthread_mutex_unlock (&a->lock);
  return NULL;
}

/* Signals are for nbdkit's own threads.  The lock must be held. */
static int
start (struct allocation *a)
{
  sigset_t all, old;
  int r;

  if (a->started)
    return 0;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  r = pthread_create (&a->thread, NULL, allocation_loop, a);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  a->started = r == 0;
  return a->started ? 0 : -1;
}

/* ---- For the others ---------------------------------------------------- */

struct allocation *
allocation_new (struct export *e)
{
  struct allocation *a = calloc (1, sizeof *a);

  if (a == NULL)
    return NULL;
  a->export = e;
  a->job.session = 1;
  a->holds_cache = holds_cache ();
  pthread_mutex_init (&a->lock, NULL);
  pthread_cond_init (&a->changed, NULL);
  return a;
}

/* The lock must be held. */
static void
stop (struct allocation *a)
{
  a->stopping = true;
  pthread_cond_broadcast (&a->changed);
}

bool
allocation_end (struct allocation *a, int64_t until_ms)
{
  const struct timespec ts = { until_ms / 1000, until_ms % 1000 * 1000000 };

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&a->lock);
  stop (a);
  while (a->started && !a->ended &&
         pthread_cond_clockwait (&a->changed, &a->lock, CLOCK_MONOTONIC, &ts) ==
           0)
    ;
  return !a->started || a->ended;
}

void
allocation_free (struct allocation *a)
{
  if (a == NULL)
    return;
  pthread_mutex_lock (&a->lock);
  stop (a);
  pthread_mutex_unlock (&a->lock);
  if (a->started)
    pthread_join (a->thread, NULL);
  extents_free (&a->answer.zero);
  pthread_cond_destroy (&a->changed);
  pthread_mutex_destroy (&a->lock);
  free (a);
}

/* The lock must be held for every call of a static function below this line. */

static void
put_question (struct allocation *a, const struct allocation_question *q)
{
  if (a->state != STATE_IDLE && a->job.question == q->number && a->job.wanted)
    return; /* it is asked for again */
  a->job.changes++;
  a->job.wanted = true;
  a->job.question = q->number;
  a->job.offset = q->offset;
  a->job.length = q->length;
  if (a->state != STATE_AT_WORK)
    a->state = STATE_ASKED;
  pthread_cond_broadcast (&a->changed);
}

static void
wait_for_answer (struct allocation *a, unsigned ms)
{
  const int64_t until = clock_ms () + ms;
  const struct timespec ts = { until / 1000, until % 1000 * 1000000 };

  while (a->state != STATE_ANSWERED && !a->stopping && clock_ms () < until)
    pthread_cond_clockwait (&a->changed, &a->lock, CLOCK_MONOTONIC, &ts);
}

enum allocation_result
allocation_ask (struct allocation *a, const struct allocation_question *q,
                unsigned ms, struct allocation_answer *answer, const char **why)
{
  *answer = (struct allocation_answer){ EXTENTS_EMPTY, a->export->disk_bytes };
  if (a->holds_cache) /* all is data */
    return ALLOCATION_KNOWN;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&a->lock);
  *why = why_unknown (a);
  if (*why != NULL)
    return ALLOCATION_UNKNOWN;
  if (start (a) == -1)
    return ALLOCATION_NO_MEMORY;
  put_question (a, q);
  wait_for_answer (a, ms);
  if (a->state != STATE_ANSWERED)
    return ALLOCATION_PENDING;
  *why = why_unknown (a); /* that may be known only now */
  if (*why != NULL) {
    a->state = STATE_IDLE;
    return ALLOCATION_UNKNOWN;
  }
  *answer = a->answer;
  a->answer = (struct allocation_answer){ EXTENTS_EMPTY, 0 };
  a->state = STATE_IDLE;
  a->job.wanted = false;
  return ALLOCATION_KNOWN;
}

void
allocation_session_ended (struct allocation *a)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&a->lock);

  a->job.changes++;
  a->job.session++;
  a->job.wanted = false;
  if (a->state != STATE_AT_WORK)
    a->state = STATE_IDLE;
  pthread_cond_broadcast (&a->changed);
}
