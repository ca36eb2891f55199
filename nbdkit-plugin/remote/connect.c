/* SPDX-License-Identifier: BSD-3-Clause */
/* Connecting to the destination, within a deadline.
 *
 * Nothing synchronous in libnbd is bounded, so the handshake is polled for in
 * short slices.  (The resolver is not bounded.)  A host of several addresses is
 * dialled here (dial.h).
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cleanup.h"
#include "dial.h"
#include "nbd-error.h"
#include "socket-buffer.h"
#include "socket-life.h"
#include "tls.h"
#include "socket-reset.h"
#include "remote.h"
#include "uri.h"

static const char *
libnbd_error (void)
{
  return nbd_error_text (nbd_get_error ());
}

static int
configure (struct connection *c)
{
  struct nbd_handle *nbd = c->nbd;

  /* A whole buffer of zeroes before each read would be for nothing. */
  if (nbd_set_pread_initialize (nbd, false) == -1 ||
      nbd_set_uri_allow_local_file (nbd, true) == -1 ||
      nbd_set_full_info (nbd, true) == -1 || /* for the description */
      nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1)
    return -1;
  return 0;
}

static bool
must_end (struct remote *m, const struct attempt *a)
{
  if (a->alive != NULL && !a->alive (a->alive_opaque))
    return true;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  return m->stopping || (a->urgent != NULL && a->urgent (a->urgent_opaque));
}

/* ---- reaching the server ----------------------------------------------- */

struct waiting {
  struct remote *m;
  const struct attempt *a;
};

static bool
goes_on (void *opaque)
{
  const struct waiting *w = opaque;

  return clock_ms () < w->a->deadline_ms && !must_end (w->m, w->a);
}

/* The socket, which is libnbd's if this does not fail. */
static int
hand_over (struct connection *c, int fd, const char *uri)
{
  CLEANUP_FREE char *name = uri_export_name (uri);

  if (name != NULL && nbd_set_export_name (c->nbd, name) == 0 &&
      nbd_aio_connect_socket (c->nbd, fd) == 0)
    return 0;
  close (fd);
  return -1;
}

/* 0; -1 with *why, or NULL there: what libnbd says. */
static int
dial (struct connection *c, struct dial *d, const struct attempt *a, char **why)
{
  struct waiting w = { .m = c->remote, .a = a };
  int fd;

  if (dial_resolve (d, why) == -1)
    return -1;
  fd = dial_connect (d, goes_on, &w, why);
  return fd == -1 ? -1 : hand_over (c, fd, a->uri);
}

static int
reach (struct connection *c, const struct attempt *a, char **why)
{
  struct dial d;
  int r;

  if (!dial_init (&d, a->uri))
    return nbd_aio_connect_uri (c->nbd, a->uri);
  r = dial (c, &d, a, why);
  dial_destroy (&d);
  return r;
}

/* ---- the handshake ----------------------------------------------------- */

/* NULL: it is ready.  Otherwise why not. */
static const char *
handshake (struct connection *c, const struct attempt *a)
{
  while (nbd_aio_is_connecting (c->nbd)) {
    const int64_t left = a->deadline_ms - clock_ms ();

    if (left <= 0)
      return "the server accepts connections but does not answer; if it "
             "serves one client at a time (the default of qemu-nbd), let it "
             "serve more (qemu-nbd -e 16)";
    if (must_end (c->remote, a))
      return "interrupted";
    if (nbd_poll (c->nbd, left < REMOTE_SLICE_MS ? left : REMOTE_SLICE_MS) ==
        -1)
      return libnbd_error ();
  }
  if (nbd_aio_is_ready (c->nbd))
    return NULL;
  return libnbd_error () ? libnbd_error () : "the server closed the connection";
}

/* NULL, or why not; that may be *text, which the caller frees. */
static const char *
establish (struct connection *c, const struct attempt *a, char **text)
{
  const char *why;

  if (configure (c) == -1)
    return libnbd_error ();
  if (reach (c, a, text) == -1)
    return *text ? *text : libnbd_error ();
  why = handshake (c, a);
  if (why != NULL)
    return why;
  if (nbd_aio_get_fd (c->nbd) == -1)
    return libnbd_error ();
  c->fd = fcntl (nbd_aio_get_fd (c->nbd), F_DUPFD_CLOEXEC, 0);
  if (c->fd == -1)
    return strerror (errno);
  socket_keep_alive (c->fd);
  socket_send_more (c->fd);
  socket_reset_at_close (c->fd);
  destination_learn (c->nbd, &c->destination);
  return NULL;
}

/* NULL, or why such a URI is not connected to; the caller frees it. */
static char *
refusal (const struct remote *m, const char *uri)
{
  if (m->options.require_tls && !tls_is_asked (uri))
    return strdup ("it is without TLS, which migrate-require-tls asks for: a "
                   "URI with TLS begins with nbds:// or nbds+unix://");
  return tls_refusal (uri);
}

struct connection *
remote_connect (struct remote *m, const struct attempt *a, char **why)
{
  struct connection *c = connection_new (m, why);
  CLEANUP_FREE char *text = NULL;
  const char *failure;

  if (c == NULL)
    return NULL;
  *why = refusal (m, a->uri);
  if (*why != NULL)
    goto error;
  failure = establish (c, a, &text);
  if (failure != NULL) {
    *why = tls_explain (a->uri, strdup (failure));
    goto error;
  }
  if (destination_check (&c->destination, m->options.disk_bytes, why) == -1)
    goto error;
  return c;

error:
  connection_close (c);
  return NULL;
}
