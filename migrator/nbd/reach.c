/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/thread.h"
#include "cleanup.h"
#include "dial.h"
#include "nbd-error.h"
#include "nbd/reach.h"
#include "uri.h"

enum state { RESOLVING, CONNECTING, DONE };

struct reach {
  struct nbd_handle *nbd;
  char *uri;
  bool dialled; /* or else libnbd does it all */
  struct dial dial;
  int event; /* an eventfd */

  pthread_mutex_t lock; /* for what follows */
  enum state state;
  bool left;
  int fd;    /* -1: none, or libnbd has it */
  char *why; /* NULL: it succeeded, or there is no memory */
  bool failed;
};

static void
release (struct reach *r)
{
  cleanup_close (&r->event);
  cleanup_close (&r->fd);
  dial_destroy (&r->dial);
  pthread_mutex_destroy (&r->lock);
  free (r->uri);
  free (r->why);
  free (r);
}

static char *
libnbd_error (void)
{
  return strdup (nbd_error_text (nbd_get_error ()));
}

/* ---- the thread -------------------------------------------------------- */

static bool
goes_on (void *opaque)
{
  struct reach *r = opaque;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);
  r->state = CONNECTING;
  return !r->left;
}

static int
reach_it (struct reach *r, int *fd, char **why)
{
  if (r->dialled) {
    if (dial_resolve (&r->dial, why) == 0)
      *fd = dial_connect (&r->dial, goes_on, r, why);
    return *fd == -1 ? -1 : 0;
  }
  if (nbd_aio_connect_uri (r->nbd, r->uri) == 0)
    return 0;
  *why = libnbd_error ();
  return -1;
}

/* Returns whether nobody waits for it. */
static bool
note_done (struct reach *r, int fd, bool failed, char *why)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);
  r->state = DONE;
  r->fd = fd;
  r->failed = failed;
  r->why = why;
  if (!r->left)
    eventfd_write (r->event, 1);
  return r->left;
}

static void *
run (void *opaque)
{
  struct reach *r = opaque;
  char *why = NULL;
  int fd = -1;
  const bool failed = reach_it (r, &fd, &why) == -1;

  if (note_done (r, fd, failed, why)) {
    nbd_close (r->nbd);
    release (r);
  }
  return NULL;
}

/* ---- from the loop ----------------------------------------------------- */

/* What resolves no name does not block. */
static bool
has_name (const char *uri)
{
  return strncmp (uri, "nbd://", 6) == 0 || strncmp (uri, "nbds://", 7) == 0;
}

static struct reach *
new_reach (struct nbd_handle *nbd, const char *uri)
{
  struct reach *r = calloc (1, sizeof *r);

  if (r == NULL)
    return NULL;
  pthread_mutex_init (&r->lock, NULL);
  r->nbd = nbd;
  r->fd = -1;
  r->dialled = dial_init (&r->dial, uri);
  r->uri = strdup (uri);
  r->event = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (r->uri != NULL && r->event != -1)
    return r;
  release (r);
  return NULL;
}

int
reach_begin (struct reach **r, struct nbd_handle *nbd, const char *uri,
             char **why)
{
  int err;

  *r = NULL;
  *why = NULL;
  if (!has_name (uri)) {
    if (nbd_aio_connect_uri (nbd, uri) == 0)
      return 0;
    *why = libnbd_error ();
    return -1;
  }
  *r = new_reach (nbd, uri);
  err = *r != NULL ? thread_start (run, *r) : errno;
  if (err == 0)
    return 0;
  if (*r != NULL)
    release (*r);
  *r = NULL;
  *why = strdup (strerror (err));
  return -1;
}

int
reach_fd (const struct reach *r)
{
  return r->event;
}

bool
reach_is_resolving (struct reach *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);
  return r->state == RESOLVING;
}

static bool
is_done (struct reach *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);
  return r->state == DONE;
}

/* libnbd takes the socket, and closes it, if it does not fail. */
static int
hand_over (struct reach *r, char **why)
{
  CLEANUP_FREE char *name = uri_export_name (r->uri);

  if (name == NULL)
    return -1;
  if (nbd_set_export_name (r->nbd, name) == -1 ||
      nbd_aio_connect_socket (r->nbd, r->fd) == -1) {
    *why = libnbd_error ();
    return -1;
  }
  r->fd = -1;
  return 0;
}

int
reach_step (struct reach **given, char **why)
{
  struct reach *r = *given;
  int result = 1;

  *why = NULL;
  if (!is_done (r))
    return 0;
  if (r->failed) {
    *why = r->why;
    r->why = NULL;
    result = -1;
  }
  else if (r->dialled && hand_over (r, why) == -1)
    result = -1;
  *given = NULL;
  release (r);
  return result;
}

bool
reach_leave (struct reach *r)
{
  bool done;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);
    done = r->state == DONE;
    r->left = true;
  }
  if (done)
    release (r);
  return !done;
}
