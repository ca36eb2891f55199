/* SPDX-License-Identifier: BSD-3-Clause */
/* On, off, the end, and looking. */

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cleanup.h"
#include "internal.h"

#define SILENT_MS                                                              \
  3000                /* nothing is sent over a connection silent for so long */
#define STOP_MS 500   /* what is unanswered has this long when stopping */
#define GRACE_MS 2000 /* R17 */

/* ---- Life --------------------------------------------------------------- */

static int
start_keeper (struct mirror *m)
{
  sigset_t all, old;
  int e;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  e = pthread_create (&m->keeper, NULL, mirror_keeper, m);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return e;
}

struct mirror *
mirror_new (const struct mirror_options *options)
{
  struct mirror *m = calloc (1, sizeof *m);
  const struct remote_options remote_options = {
    .disk_bytes = options->disk_bytes,
    .silent_ms = SILENT_MS,
    .unheard_ms = options->unheard_ms,
    .require_tls = options->require_tls,
  };
  const struct remote_user user = { .lost = mirror_lost, .opaque = m };

  if (m == NULL)
    return NULL;
  remote_init (&m->remote, &remote_options, &user);
  m->options = *options;
  m->uri = strdup (options->uri);
  if (m->uri != NULL && start_keeper (m) == 0)
    return m;
  remote_destroy (&m->remote);
  free (m->uri);
  free (m);
  return NULL;
}

void
mirror_stop (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  if (!m->remote.stopping) {
    m->remote.stopping = true;
    m->remote.stop_ms = clock_ms () + STOP_MS;
  }
  pthread_cond_broadcast (&m->remote.changed);
}

void
mirror_free (struct mirror *m)
{
  mirror_end_session (m);
  mirror_stop (m);
  pthread_join (m->keeper, NULL);
  pthread_mutex_lock (&m->remote.lock);
  mirror_reap (m); /* a flush that was given up after the keeper's end */
  pthread_mutex_unlock (&m->remote.lock);
  remote_destroy (&m->remote);
  free (m->uri);
  free (m);
}

/* ---- On and off ---------------------------------------------------------- */

void
mirror_enable (struct mirror *m, const struct mirror_peer *peer,
               unsigned max_ms)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  m->wanted = true;
  m->peer = *peer;
  m->max_ms = max_ms;
  pthread_cond_broadcast (&m->remote.changed);
}

/* L. */
static void
put_off (struct mirror *m)
{
  m->wanted = false;
  if (m->on)
    m->options.user.set (m->options.user.opaque, 0);
  m->on = false;
}

void
mirror_demote (struct mirror *m, const char *fmt, ...)
{
  va_list args;

  if (!m->wanted && !m->on)
    return;
  put_off (m);
  ++m->demotions;
  va_start (args, fmt);
  vsnprintf (m->why, sizeof m->why, fmt, args);
  va_end (args);
}

void
mirror_disable (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  put_off (m);
}

/* L. */
static void
retire_all (struct mirror *m)
{
  for (unsigned i = 0; i < m->remote.nr_connections; ++i)
    remote_retire (m->remote.connections[i], NULL);
  pthread_cond_broadcast (&m->remote.changed);
}

void
mirror_leave (struct mirror *m, const char *why)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  mirror_demote (m, "%s", why);
  ++m->left;
  retire_all (m);
}

void
mirror_end_session (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  put_off (m);
  m->over = true;
  retire_all (m);
}

/* ---- Losses -------------------------------------------------------------- */

/* What was written over it and not flushed, or not answered. */
static bool
owes (const struct connection *c)
{
  return c->flushed < c->acknowledged || c->writes > 0;
}

void
mirror_lost (void *opaque, struct connection *c, bool again, const char *why)
{
  struct mirror *m = opaque;

  if (again)
    return;
  if (owes (c))
    m->options.user.lost (m->options.user.opaque);
  if (!c->retired) /* otherwise it was given up */
    mirror_demote (m, "a connection to the destination was lost: %s",
                   why ? why : "it is closed");
  pthread_cond_broadcast (&m->remote.changed);
}

void
mirror_note_unknown (struct mirror *m)
{
  const int64_t slow = 2 * m->remote.longest_ms;
  const int64_t until = clock_ms () + (slow > GRACE_MS ? slow : GRACE_MS);

  m->options.user.delayed (m->options.user.opaque, m->remote.longest_ms);
  if (until > m->late_until_ms)
    m->late_until_ms = until;
}

/* ---- Parcels --------------------------------------------------------------
 */

/* The last of it was answered.  L. */
static void
answered (struct batch *b)
{
  const struct parcel *p = (const struct parcel *)b;

  if (p->abandoned)
    pthread_cond_broadcast (&p->mirror->remote.changed);
}

void
parcel_init (struct parcel *p, struct mirror *m, bool is_flush)
{
  *p = (struct parcel){ .mirror = m, .is_flush = is_flush };
  batch_init (&p->batch, m->remote.generation);
  p->batch.sleeps = true;
  p->batch.finish = answered;
  p->sent_ms = clock_ms ();
}

void
parcel_abandon (struct parcel *p)
{
  struct mirror *m = p->mirror;

  p->abandoned = true;
  p->next = m->abandoned;
  m->abandoned = p;
  m->unanswered += !p->is_flush;
  pthread_cond_broadcast (&m->remote.changed);
}

void
parcel_free (struct parcel *p)
{
  struct mirror *m = p->mirror;

  batch_destroy (&p->batch);
  if (!p->is_flush) {
    pthread_mutex_lock (&m->remote.lock);
    m->memory -= ((struct mirror_write *)p)->bytes;
    pthread_mutex_unlock (&m->remote.lock);
  }
  free (p);
}

/* ---- Looking --------------------------------------------------------------
 */

/* L. */
static int64_t
oldest_ms (const struct mirror *m)
{
  int64_t oldest = 0;

  for (const struct parcel *p = m->abandoned; p != NULL; p = p->next) {
    const int64_t age = clock_ms () - p->sent_ms;

    if (!p->is_flush && age > oldest)
      oldest = age;
  }
  return oldest;
}

void
mirror_get_status (struct mirror *m, struct mirror_status *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  *s = (struct mirror_status){
    .starting = m->wanted && !m->on,
    .on = m->on,
    .over = m->over,
    .ended = m->ended,
    .unanswered = m->unanswered,
    .late_ms = oldest_ms (m),
    .demotions = m->demotions,
  };
  memcpy (s->why, m->why, sizeof s->why);
}

bool
mirror_is_late (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->remote.lock);

  return m->unanswered > 0 || clock_ms () < m->late_until_ms;
}
