/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "base/no-memory.h"
#include "proxy/control.h"

struct call {
  control_callback *callback;
  void *opaque;
  int64_t sent_us;
  struct call *next;
};

struct control {
  struct watch watch;
  struct loop *loop;
  struct line_reader reader;
  struct call *first, **last; /* commands not yet answered */
  struct deferred failing;    /* tells them that the connection ended */
  bool failing_queued;
  json_t *exports; /* from the greeting */
  char *why;
};

void
control_answer_clear (struct control_answer *a)
{
  json_decref (a->value);
  free (a->error_class);
  free (a->desc);
  *a = (struct control_answer){ .done = false };
}

const char *
control_broken (const struct control *c)
{
  return c->why;
}

const json_t *
control_exports (const struct control *c)
{
  return c->exports;
}

static void
finish_call (struct control *c, const struct control_answer *a)
{
  struct call *call = c->first;

  c->first = call->next;
  if (c->first == NULL)
    c->last = &c->first;
  call->callback (call->opaque, a);
  free (call);
}

static void
fail_calls (struct deferred *d)
{
  struct control *c =
    (struct control *)((char *)d - offsetof (struct control, failing));

  c->failing_queued = false;
  while (c->first != NULL) {
    CLEANUP_ANSWER struct control_answer a = {
      .done = true,
      .error_class = copy_text (CONTROL_LOST),
      .desc = copy_text (c->why),
    };

    finish_call (c, &a);
  }
}

static void
lose (struct control *c, const char *why)
{
  if (c->why == NULL)
    c->why = copy_text (why);
  c->watch.events = 0;
  if (!c->failing_queued) {
    c->failing_queued = true;
    loop_defer (c->loop, &c->failing);
  }
}

/* Whether sending or receiving notices it first is a matter of luck. */
static const char *
socket_error (int err)
{
  return err == EPIPE || err == ECONNRESET
           ? "the proxy closed the control connection"
           : strerror (err);
}

/* An answer that is there has come in time, however long we were stopped
 * ourselves.
 */
static bool
is_readable (const struct control *c)
{
  struct pollfd p = { .fd = c->watch.fd, .events = POLLIN };

  return poll (&p, 1, 0) > 0;
}

void
control_check_timeout (struct control *c, int64_t now_us, int64_t timeout_us)
{
  if (c->why == NULL && c->first != NULL &&
      now_us - c->first->sent_us > timeout_us && !is_readable (c))
    lose (c, "the proxy does not answer");
}

void
control_give_up (struct control *c, const char *why)
{
  if (c->why == NULL)
    lose (c, why);
}

static void
got_message (struct control *c, json_t *message)
{
  CLEANUP_ANSWER struct control_answer a = { .done = true };
  const char *error_class, *desc;
  json_t *value;

  if (c->first == NULL) {
    lose (c, "an answer came to no command");
    return;
  }
  value = json_object_get (message, "return");
  if (value != NULL)
    a.value = json_incref (value);
  else if (json_unpack (message, "{s:{s:s, s:s}}", "error", "class",
                        &error_class, "desc", &desc) == 0) {
    a.error_class = copy_text (error_class);
    a.desc = copy_text (desc);
  }
  else {
    lose (c, "an answer is neither a return nor an error");
    return;
  }
  finish_call (c, &a);
}

static const char *
no_json (const json_error_t *error, const char *otherwise)
{
  return json_error_code (error) == json_error_out_of_memory ? strerror (ENOMEM)
                                                             : otherwise;
}

static void
ready (struct watch *w, short revents)
{
  struct control *c = (struct control *)w;
  ssize_t n = line_reader_receive (&c->reader, w->fd);
  json_error_t error;
  char *text;

  (void)revents;
  if (n == -1 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    lose (c, socket_error (n == 0 ? ECONNRESET : errno));
    return;
  }
  while (c->why == NULL && (text = line_reader_next (&c->reader)) != NULL) {
    CLEANUP_FREE char *line = text;
    CLEANUP_JSON json_t *message = json_loads (line, 0, &error);

    if (message == NULL)
      lose (c,
            no_json (&error, "what came over the control socket is no JSON"));
    else
      got_message (c, message);
  }
  if (c->why == NULL && errno != 0)
    lose (c, strerror (errno));
}

/* ---- opening ----------------------------------------------------------- */

static int
connect_socket (const char *path)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  int sock;

  if (strlen (path) >= sizeof addr.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  memcpy (addr.sun_path, path, strlen (path));
  sock = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (sock == -1)
    return -1;
  if (connect (sock, (const struct sockaddr *)&addr, sizeof addr) == -1) {
    const int err = errno;

    close (sock);
    errno = err;
    return -1;
  }
  return sock;
}

/* More of the greeting.  NULL, or why there is none. */
static const char *
receive_some (struct control *c, struct pollfd *p, int timeout_ms)
{
  const int r = poll (p, 1, timeout_ms);
  ssize_t n;

  if (r == 0)
    return CONTROL_NO_GREETING;
  if (r == -1)
    return errno == EINTR ? NULL : strerror (errno);
  n = line_reader_receive (&c->reader, p->fd);
  if (n == -1 && errno != ECONNRESET)
    return errno == EAGAIN ? NULL : strerror (errno);
  return n > 0 ? NULL
               : "the proxy closed the connection at once; it admits only its "
                 "own user and root";
}

/* Read the greeting.  0, or -1 with *why. */
static int
greet (struct control *c, int timeout_ms, char **why)
{
  struct pollfd p = { .fd = c->watch.fd, .events = POLLIN };
  CLEANUP_FREE char *line = NULL;
  CLEANUP_JSON json_t *greeting = NULL;
  json_error_t error = { 0 };
  int protocol = 0;

  while ((line = line_reader_next (&c->reader)) == NULL) {
    const char *failed =
      errno != 0 ? strerror (errno) : receive_some (c, &p, timeout_ms);

    if (failed != NULL) {
      *why = strdup (failed);
      return -1;
    }
  }
  greeting = json_loads (line, 0, &error);
  if (greeting == NULL || json_unpack (greeting, "{s:{s:i}}", "nbdmigrate",
                                       "protocol", &protocol) == -1) {
    *why = strdup (no_json (&error, "this is not the control socket of nbdkit "
                                    "--filter=migrate"));
    return -1;
  }
  c->exports = json_incref (
    json_object_get (json_object_get (greeting, "nbdmigrate"), "exports"));
  if (protocol != PROTOCOL_VERSION) {
    if (asprintf (why,
                  "the filter speaks control protocol %d, this nbdmigrate %d; "
                  "install the same version of both",
                  protocol, PROTOCOL_VERSION) == -1)
      *why = NULL;
    return -1;
  }
  return 0;
}

struct control *
control_open (struct loop *loop, const char *path, int timeout_ms, char **why)
{
  struct control *c = calloc (1, sizeof *c);

  *why = NULL;
  if (c == NULL)
    return NULL;
  c->loop = loop;
  c->last = &c->first;
  c->failing.run = fail_calls;
  line_reader_init (&c->reader);
  c->watch = (struct watch){ .fd = connect_socket (path),
                             .events = POLLIN,
                             .ready = ready };
  if (c->watch.fd == -1)
    *why = strdup (strerror (errno));
  else if (greet (c, timeout_ms, why) == 0 && loop_add (loop, &c->watch) == 0)
    return c;
  control_close (c);
  return NULL;
}

void
control_close (struct control *c)
{
  if (c == NULL)
    return;
  loop_remove (c->loop, &c->watch);
  if (c->why == NULL)
    c->why = copy_text ("closed");
  loop_undefer (c->loop, &c->failing);
  fail_calls (&c->failing);
  loop_undefer (c->loop, &c->failing); /* a callback may have sent more */
  if (c->watch.fd >= 0)
    close (c->watch.fd);
  line_reader_destroy (&c->reader);
  json_decref (c->exports);
  free (c->why);
  free (c);
}

/* ---- commands ---------------------------------------------------------- */

void
control_send (struct control *c, const char *command, json_t *arguments,
              const int *fds, size_t nr_fds, control_callback *callback,
              void *opaque)
{
  CLEANUP_JSON json_t *message = protocol_command (command, arguments);
  struct call *call = calloc (1, sizeof *call);

  if (call == NULL || message == NULL)
    no_memory (); /* nobody would answer */
  call->callback = callback;
  call->opaque = opaque;
  call->sent_us = loop_now_us ();
  *c->last = call;
  c->last = &call->next;
  if (c->why != NULL)
    lose (c, c->why);
  else if (protocol_send (c->watch.fd, message, fds, nr_fds) == -1)
    lose (c, socket_error (errno));
}

static void
store (void *opaque, const struct control_answer *a)
{
  struct control_answer *answer = opaque;

  answer->value = json_incref (a->value);
  answer->error_class = a->error_class ? copy_text (a->error_class) : NULL;
  answer->desc = a->desc ? copy_text (a->desc) : NULL;
  answer->done = true;
}

void
control_ask (struct control *c, const char *command, json_t *arguments,
             struct control_answer *a)
{
  control_send (c, command, arguments, NULL, 0, store, a);
}

void
control_wait (struct control *c, const char *command, json_t *arguments,
              int timeout_ms, struct control_answer *a)
{
  const int64_t deadline = loop_now_us () + (int64_t)timeout_ms * 1000;

  control_ask (c, command, arguments, a);
  while (!a->done) {
    const int64_t left = (deadline - loop_now_us ()) / 1000;

    if (left <= 0 && !is_readable (c))
      lose (c, "the proxy did not answer in time");
    if (loop_run_once (c->loop, left > 0 ? (int)left : 0) == -1)
      lose (c, strerror (errno));
  }
}
