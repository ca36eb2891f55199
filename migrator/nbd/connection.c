/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection from its begin to its end.  What it carries is in
 * connection-io.c.
 */

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libnbd.h>

#include "cleanup.h"
#include "nbd/connection-internal.h"
#include "base/say.h"
#include "socket-buffer.h"
#include "socket-life.h"
#include "tls.h"
#include "socket-reset.h"
#include "nbd/reach.h"
#include "nbd/unanswered.h"
#include "nbd/wire.h"

/* How often it looks whether a name is resolved. */
#define CONNECT_SLICE_MS 100

bool
connection_alive (const struct connection *c)
{
  return c->why == NULL;
}

int
connection_socket (const struct connection *c)
{
  return connection_is_broken (c) ? -1 : c->sock;
}

bool
connection_holds_nothing (const struct connection *c)
{
  return c->in_flight == 0 && !c->written && !c->flush_due;
}

void
connection_note_why (struct connection *c, const char *why)
{
  if (c->why == NULL)
    c->why = strdup (why && why[0] ? why : "the connection was closed");
}

/* So long nobody is told that an attempt to connect takes its time. */
#define QUIET_MS 3000

/* Where the first words of a server take less, nothing is begun ahead: that is
 * two round trips.
 */
#define FAR_US 4000

/* ---- connecting -------------------------------------------------------- */

static int
configure (struct nbd_handle *nbd, const struct connection_options *options)
{
  /* Files named in the URI (TLS keys) are the user's own. */
  if (nbd_set_uri_allow_local_file (nbd, true) == -1 ||
      nbd_set_full_info (nbd, true) == -1 ||
      nbd_set_pread_initialize (nbd, false) == -1)
    return -1;
  /* Where a disk's end is no whole block it is the server that judges. */
  if (nbd_set_strict_mode (nbd, nbd_get_strict_mode (nbd) &
                                  ~(uint32_t)LIBNBD_STRICT_ALIGN) == -1)
    return -1;
  if (options->allocation &&
      nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1)
    return -1;
  if (options->depth_context != NULL &&
      nbd_add_meta_context (nbd, options->depth_context) == -1)
    return -1;
  return 0;
}

static bool
is_coming (const struct connection *c)
{
  return c->why == NULL && (c->reach != NULL || nbd_aio_is_ready (c->nbd) != 1);
}

bool
connection_is_resolving (const struct connection *c)
{
  return c->reach != NULL && reach_is_resolving (c->reach);
}

/* Begin to connect. */
static void
set_out (struct connection *c, const char *uri)
{
  CLEANUP_FREE char *why = NULL;

  if (reach_begin (&c->reach, c->nbd, uri, &why) == -1)
    connection_note_why (c, why ? why : "no memory");
}

void
connection_reach_on (struct connection *c)
{
  CLEANUP_FREE char *why = NULL;

  if (reach_step (&c->reach, &why) == -1)
    connection_note_why (c, why ? why : "no memory");
}

static struct pollfd
connect_pollfd (const struct connection *c)
{
  struct pollfd p = { .fd = -1 };
  unsigned dir;

  if (c->reach != NULL)
    return (struct pollfd){ .fd = reach_fd (c->reach), .events = POLLIN };
  p.fd = nbd_aio_get_fd (c->nbd);
  dir = nbd_aio_get_direction (c->nbd);
  if (dir & LIBNBD_AIO_DIRECTION_READ)
    p.events |= POLLIN;
  if (dir & LIBNBD_AIO_DIRECTION_WRITE)
    p.events |= POLLOUT;
  return p;
}

static void
connect_step (struct connection *c, const struct pollfd *p)
{
  int r;

  if (c->reach != NULL) {
    connection_reach_on (c);
    return;
  }
  if ((p->revents & (POLLIN | POLLHUP)) && (p->events & POLLIN)) {
    c->heard = true;
    r = nbd_aio_notify_read (c->nbd);
  }
  else
    r = nbd_aio_notify_write (c->nbd);
  if (r == -1 || connection_is_broken (c))
    connection_note_why (c, connection_libnbd_error ());
}

/* A server that has begun to talk admits us, however long it takes for the
 * rest.
 */
static bool
some_unheard (struct connection *v[], unsigned n)
{
  unsigned i;

  for (i = 0; i < n; ++i)
    if (is_coming (v[i]) && !v[i]->heard)
      return true;
  return false;
}

/* One step towards the ready state, of all that are on their way; how many of
 * the first n still are, 'ahead' others follow them.  A connection that will
 * not come has its 'why'; so have those that heard nothing (or all if all have)
 * if nothing happens in the last one.
 */
static unsigned
connect_round (struct connection *v[], unsigned n, unsigned ahead,
               int interrupt_fd, int timeout_ms, bool last)
{
  const unsigned all = n + ahead;
  struct pollfd p[CONNECTION_SEVERAL_MAX + 1];
  const char *why = NULL;
  const bool unheard = some_unheard (v, n);
  unsigned i, coming = 0;
  int r;

  for (i = 0; i < all; ++i)
    p[i] =
      is_coming (v[i]) ? connect_pollfd (v[i]) : (struct pollfd){ .fd = -1 };
  p[all] = (struct pollfd){ .fd = interrupt_fd, .events = POLLIN };
  r = poll (p, all + 1, timeout_ms);
  if (r == -1 && errno != EINTR)
    why = strerror (errno);
  else if (r == 0 && last)
    why = "no answer to the connection attempt: is the server stopped, or does "
          "it admit no further client, or has it no descriptor left?";
  else if (r > 0 && p[all].revents != 0)
    why = "interrupted";
  for (i = 0; i < all; ++i) {
    if (p[i].fd != -1 && why != NULL && !(r == 0 && unheard && v[i]->heard))
      connection_note_why (v[i], why);
    else if (p[i].fd != -1 && r > 0 && p[i].revents != 0)
      connect_step (v[i], &p[i]);
    coming += i < n && is_coming (v[i]);
  }
  return coming;
}

static bool
is_resolving (struct connection *const v[], unsigned n)
{
  unsigned i;

  for (i = 0; i < n; ++i)
    if (connection_is_resolving (v[i]))
      return true;
  return false;
}

static void
say_waiting (const char *uri, bool resolving, unsigned limit_ms)
{
  if (resolving)
    say_info ("the name of the server of %s is not resolved yet: waiting for "
              "that",
              uri);
  else
    say_info ("%s does not answer the connection attempt: waiting for it, %u s "
              "in all",
              uri, limit_ms / 1000);
}

/* All but the handle. */
static void
destroy (struct connection *c)
{
  if (c->is_duplicate && c->sock != -1)
    close (c->sock);
  pthread_mutex_destroy (&c->lock);
  free (c->broken_why);
  free (c->words);
  free (c->probe);
  free (c->why);
  free (c);
}

static bool
is_negotiating (const struct connection *c)
{
  return c->nbd != NULL && c->why == NULL && c->reach == NULL &&
         nbd_aio_is_negotiating (c->nbd) == 1;
}

/* One that was never in use. */
static void
discard (struct connection *c)
{
  if (is_negotiating (c))
    nbd_aio_opt_abort (c->nbd); /* goodbye */
  if (c->reach == NULL || !reach_leave (c->reach))
    nbd_close (c->nbd);
  destroy (c);
}

/* NULL with *why: no memory, or libnbd or the URI will not do. */
static struct connection *
new_connection (struct loop *loop, const char *uri,
                const struct connection_options *options, char **why)
{
  struct connection *c;

  *why = tls_refusal (uri); /* not without knowing who is there */
  if (*why != NULL)
    return NULL;
  c = calloc (1, sizeof *c);
  if (c == NULL)
    return NULL;
  c->loop = loop;
  c->sock = -1;
  c->on_thread = options->on_thread;
  pthread_mutex_init (&c->lock, NULL);
  connection_init_io (c);
  c->nbd = nbd_create ();
  if (c->nbd != NULL && configure (c->nbd, options) == 0)
    return c;
  *why = strdup (connection_libnbd_error ());
  discard (c);
  return NULL;
}

static void
come_into_use (struct connection *c)
{
  c->coming = false;
  c->sock = c->watch.fd = nbd_aio_get_fd (c->nbd);
  socket_keep_alive (c->sock);
  socket_send_more (c->sock);
  c->asked_us = c->answered_us = loop_now_us ();
  c->tls = nbd_get_tls_negotiated (c->nbd) == 1;
  c->framed = !c->tls && nbd_get_structured_replies_negotiated (c->nbd) == 1;
  c->can_cache = nbd_can_cache (c->nbd) == 1;
  c->can_fua = nbd_can_fua (c->nbd) == 1;
  c->can_status =
    nbd_can_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  c->whole = true;
  c->between = c->framed;
  if (c->tls || c->on_thread)
    connection_give_to_thread (c);
}

/* Of v[] n are waited for, of which the first 'begun' are on their way already;
 * what is begun ahead comes behind them.
 */
struct attempt {
  struct loop *loop;
  const char *uri;
  struct connection **v;
  unsigned n, begun;
  struct connection_ahead *ahead; /* or NULL */
  int64_t begun_us;
};

static void
go_ahead (struct attempt *a, int64_t now_us)
{
  struct connection_ahead *ahead = a->ahead;
  struct connection *c;
  char *why = NULL;

  if (ahead == NULL || ahead->n == ahead->wanted || !a->v[0]->heard ||
      now_us - a->begun_us < FAR_US)
    return;
  while (ahead->n < ahead->wanted &&
         (c = new_connection (a->loop, a->uri, ahead->options, &why)) != NULL) {
    c->held = true;
    if (nbd_set_opt_mode (c->nbd, true) == -1)
      connection_note_why (c, connection_libnbd_error ());
    else
      set_out (c, a->uri);
    a->v[a->n + ahead->n] = ahead->v[ahead->n] = c;
    ahead->n++;
  }
  ahead->wanted = ahead->n;
  free (why);
}

static int
note_opened (void *opaque, int *error)
{
  if (*error != 0)
    connection_note_why (opaque, "the server does not open the export for it");
  return 1;
}

/* Those that were held back open it now. */
static void
let_go (struct attempt *a)
{
  for (unsigned i = 0; i < a->begun; ++i) {
    struct connection *c = a->v[i];

    if (!c->held || !is_negotiating (c))
      continue;
    c->held = false;
    if (nbd_aio_opt_go (c->nbd,
                        (nbd_completion_callback){ .callback = note_opened,
                                                   .user_data = c }) == -1)
      connection_note_why (c, connection_libnbd_error ());
  }
}

static unsigned
begin_all (struct attempt *a)
{
  unsigned i, coming = 0;

  a->begun_us = loop_now_us ();
  for (i = 0; i < a->n; ++i) {
    if (i >= a->begun)
      set_out (a->v[i], a->uri);
    coming += is_coming (a->v[i]);
  }
  return coming;
}

/* Until all have come, or will not; limit_ms is how long none may come that has
 * heard nothing, from when their names are resolved.
 */
static void
connect_all (struct attempt *a, unsigned limit_ms, int interrupt_fd)
{
  unsigned coming = begin_all (a), before = 0;
  int64_t deadline = 0, quiet = 0;
  bool said = limit_ms <= QUIET_MS;

  while (coming > 0) {
    const bool resolving = is_resolving (a->v, a->n);
    const int64_t now = loop_now_us ();
    const bool patient =
      limit_ms < CONNECTION_CONNECT_MS && !some_unheard (a->v, a->n);
    int64_t left;
    bool last;

    if (patient)
      limit_ms = CONNECTION_CONNECT_MS;
    if (patient || coming != before)
      quiet = now + QUIET_MS * 1000;
    if (patient || coming != before || resolving)
      deadline = now + (int64_t)limit_ms * 1000;
    before = coming;
    if (!said && now >= quiet) {
      said = true;
      say_waiting (a->uri, resolving, limit_ms);
    }
    left = (deadline - now + 999) / 1000;
    last = left <= CONNECT_SLICE_MS;
    if (!last)
      left = CONNECT_SLICE_MS;
    go_ahead (a, now);
    let_go (a);
    coming = connect_round (a->v, a->n, a->ahead != NULL ? a->ahead->n : 0,
                            interrupt_fd, left > 0 ? (int)left : 0, last);
  }
}

/* Of those that were waited for those that have come are in use, and in v[0]
 * and the following.
 */
static unsigned
use_all (const struct attempt *a, char **why)
{
  struct connection **v = a->v;
  unsigned i, come = 0;

  for (i = 0; i < a->n; ++i) {
    if (v[i]->why == NULL && loop_add (a->loop, &v[i]->watch) == -1)
      connection_note_why (v[i], strerror (errno));
    if (v[i]->why == NULL) {
      come_into_use (v[i]);
      v[come++] = v[i];
      continue;
    }
    if (*why == NULL) {
      *why = tls_explain (a->uri, v[i]->why);
      v[i]->why = NULL;
    }
    discard (v[i]);
  }
  return come;
}

static unsigned
limit_ms (const struct connection_options *options)
{
  return options->connect_ms ? options->connect_ms : CONNECTION_CONNECT_MS;
}

void
connection_forget_ahead (struct connection_ahead *ahead)
{
  while (ahead->n > 0)
    discard (ahead->v[--ahead->n]);
}

unsigned
connection_open_several (struct loop *loop, const char *uri,
                         const struct connection_options *options,
                         int interrupt_fd, struct connection_ahead *ahead,
                         struct connection *v[], unsigned n, char **why)
{
  struct attempt a = { .loop = loop, .uri = uri, .v = v };

  assert (n <= CONNECTION_SEVERAL_MAX);
  *why = NULL;
  while (ahead != NULL && ahead->n > 0 && a.n < n)
    v[a.n++] = ahead->v[--ahead->n];
  a.begun = a.n;
  while (a.n < n && (v[a.n] = new_connection (loop, uri, options, why)) != NULL)
    a.n++;
  connect_all (&a, limit_ms (options), interrupt_fd);
  return use_all (&a, why);
}

struct connection *
connection_open_first (struct loop *loop, const char *uri,
                       const struct connection_options *options,
                       int interrupt_fd, struct connection_ahead *ahead,
                       char **why)
{
  struct connection *v[1 + CONNECTION_SEVERAL_MAX];
  struct attempt a = {
    .loop = loop, .uri = uri, .v = v, .n = 1, .ahead = ahead
  };

  assert (ahead->n == 0 && ahead->wanted < CONNECTION_SEVERAL_MAX);
  v[0] = new_connection (loop, uri, options, why);
  if (v[0] == NULL)
    return NULL;
  connect_all (&a, limit_ms (options), interrupt_fd);
  if (use_all (&a, why) == 1)
    return v[0];
  connection_forget_ahead (ahead);
  return NULL;
}

struct connection *
connection_open (struct loop *loop, const char *uri,
                 const struct connection_options *options, int interrupt_fd,
                 char **why)
{
  struct connection_ahead none = { .wanted = 0 };

  return connection_open_first (loop, uri, options, interrupt_fd, &none, why);
}

struct connection *
connection_begin (struct loop *loop, const char *uri,
                  const struct connection_options *options, char **why)
{
  struct connection *c = new_connection (loop, uri, options, why);

  if (c == NULL)
    return NULL;
  c->coming = true;
  set_out (c, uri);
  if (c->why == NULL && loop_add (loop, &c->watch) == 0)
    return c;
  *why = tls_explain (uri, c->why);
  c->why = NULL;
  discard (c);
  return NULL;
}

bool
connection_has_come (struct connection *c)
{
  if (c->coming && !is_coming (c) && connection_alive (c))
    come_into_use (c);
  return !c->coming;
}

/* Whose owner does not expect its end any more; it may be freed next. */
static void
forget_requests (struct connection *c)
{
  struct io *io;

  for (io = c->ios; io != NULL; io = io->next) {
    loop_undefer (c->loop, &io->deferred);
    free (io->words);
  }
}

/* What there is to send fits into the socket. */
void
connection_goodbye (struct connection *c)
{
  if (c->said_goodbye || !connection_alive (c) || c->in_flight > 0 ||
      c->reach != NULL)
    return;
  if (c->driver != NULL)
    connection_take_back (c);
  loop_undefer (c->loop, &c->news);
  loop_remove (c->loop, &c->watch);
  socket_deliver_at_close (c->sock);
  nbd_aio_disconnect (c->nbd, 0);
  c->said_goodbye = true;
}

void
connection_close (struct connection *c)
{
  if (c == NULL)
    return;
  connection_goodbye (c);
  if (c->driver != NULL)
    connection_take_back (c);
  loop_undefer (c->loop, &c->news);
  loop_remove (c->loop, &c->watch);
  if (c->reach != NULL) {
    discard (c);
    return;
  }
  if (!c->said_goodbye && connection_alive (c) && !connection_is_broken (c) &&
      !c->left)
    socket_reset (c->sock);
  /* Since 1.18 libnbd completes what is in flight here, which is no answer. */
  unanswered_freeze (c);
  if (c->wire != NULL)
    wire_add (c->wire, c->nbd);
  nbd_close (c->nbd);
  forget_requests (c);
  destroy (c);
}

void
connection_leave (struct connection *c, bool leave)
{
  if (leave && c->driver != NULL)
    connection_take_back (c);
  c->left = leave;
}

void
connection_break (struct connection *c, const char *why)
{
  if (!connection_alive (c))
    return;
  connection_note_why (c, why);
  if (connection_is_broken (c))
    return; /* and the descriptor is closed */
  socket_reset (c->sock);
  /* Let libnbd see it now: it then completes everything with an error.  (Who
   * drives it is woken by the reset.)
   */
  if (c->driver == NULL)
    nbd_aio_notify_read (c->nbd);
}

/* A server may need minutes for a flush, but its network acknowledges what was
 * sent; one that does not is away.
 */
static bool
is_unreachable (const struct connection *c, int64_t now_us)
{
  const int64_t oldest_us = connection_oldest_us (c, true);

  return oldest_us != 0 &&
         now_us - oldest_us > (int64_t)SOCKET_UNHEARD_MS * 1000 / 2 &&
         socket_unheard_ms (c->sock) >= SOCKET_UNHEARD_MS;
}

void
connection_check (struct connection *c, int64_t now_us, int64_t stopped_us)
{
  const struct io *io;

  if (!connection_alive (c))
    return;
  if (is_unreachable (c, now_us)) {
    connection_break (c, "the network does not reach the server any more");
    return;
  }
  if (stopped_us == 0 || now_us - stopped_us <= CONNECTION_STOP_US)
    return;
  for (io = c->ios; io != NULL; io = io->next)
    if (!io->probe && now_us - io->started_us > CONNECTION_STOP_US) {
      connection_break (c, "the server did not answer in time");
      return;
    }
}

int64_t
connection_oldest_us (const struct connection *c, bool probes)
{
  const struct io *io;
  int64_t oldest_us = 0;

  for (io = c->ios; io != NULL; io = io->next) /* new ones come first */
    if (probes || !io->probe)
      oldest_us = io->started_us;
  return oldest_us;
}
