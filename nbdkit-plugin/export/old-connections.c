/* SPDX-License-Identifier: BSD-3-Clause */
/* R17: the only evidence of when a write has landed is not thrown away. */

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "old-connections.h"
#include "socket-life.h"
#include "socket-reset.h"

static uint64_t
age_ms (int64_t since_us)
{
  const int64_t ms = clock_ms () - since_us / 1000;

  return ms > 0 ? ms : 0;
}

static bool
is_unix (int fd)
{
  int domain = 0;
  socklen_t size = sizeof domain;

  return getsockopt (fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
         domain == AF_UNIX;
}

/* Whether it holds bytes that the peer's kernel has not acknowledged. */
static bool
has_unsent (int fd)
{
  int n = 0;

  return !is_unix (fd) && ioctl (fd, SIOCOUTQ, &n) == 0 && n > 0;
}

static void
drop (int fd)
{
  socket_reset (fd);
  close (fd);
}

/* ---- Adding ------------------------------------------------------------- */

/* Room for another one: the one that was waited for the longest is the least
 * likely to tell anything.
 */
static void
make_room (struct old_connections *o)
{
  if (o->n < OLD_CONNECTIONS_MAX)
    return;
  drop (o->v[0].fd);
  for (size_t i = 1; i < o->n; i++)
    o->v[i - 1] = o->v[i];
  o->n--;
  o->doubt = true;
}

/* With somebody left who can send, and receive, there may be more requests than
 * the line says, and its bytes need not be where it says: then no answer tells.
 */
static void
watch (struct old_connections *o, int fd, const struct ledger_line *line,
       bool alone, bool shut)
{
  socket_keep_alive (fd);
  make_room (o);
  o->v[o->n++] = (struct old_connection){
    .fd = fd,
    .since_us = line->since_us,
    .one_answer = alone && line->requests == 1,
    .framed = alone && line->framed && line->requests > 0,
    .shut = shut,
    .replies.owed = line->requests,
  };
}

uint64_t
old_connections_add (struct old_connections *o, int fd,
                     const struct ledger_line *line, bool alone)
{
  if (line->since_us == 0) {
    shutdown (fd, SHUT_RDWR);
    close (fd);
    return 0;
  }
  if (alone && line->whole)
    watch (o, fd, line, true, false);
  else if (has_unsent (fd)) {
    drop (fd);
    o->doubt = true; /* the peer may have had it all, and not said so yet */
  }
  else {
    shutdown (fd, SHUT_WR);
    watch (o, fd, line, alone, true);
  }

  const uint64_t age = age_ms (line->since_us);

  return age > 0 ? age : 1;
}

/* ---- Watching ----------------------------------------------------------- */

enum fate { FATE_WAITS, FATE_ANSWERED, FATE_GONE };

/* Something has come.  Whether it completes the answers to all that was asked.
 */
static bool
is_answered (struct old_connection *c, const uint8_t *bytes, size_t n)
{
  if (c->framed) {
    c->framed = reply_reader_take (&c->replies, bytes, n);
    if (c->framed)
      return c->replies.owed == 0;
  }
  else if (c->one_answer)
    return true;
  /* Nobody sends more: the server closes when it has done all that it was asked
   * for.
   */
  if (!c->shut)
    shutdown (c->fd, SHUT_WR);
  c->shut = true;
  return false;
}

static enum fate
fate_of (struct old_connection *c)
{
  uint8_t buf[4096];
  ssize_t n;

  while ((n = recv (c->fd, buf, sizeof buf, MSG_DONTWAIT)) > 0) {
    if (is_answered (c, buf, (size_t)n))
      return FATE_ANSWERED;
  }
  if (n == 0 || (errno != EAGAIN && errno != EINTR))
    return FATE_GONE;
  return socket_unheard_ms (c->fd) >= SOCKET_UNHEARD_MS ? FATE_GONE
                                                        : FATE_WAITS;
}

bool
old_connections_look (struct old_connections *o, uint64_t *delay_ms)
{
  size_t kept = 0;

  *delay_ms = 0;
  for (size_t i = 0; i < o->n; i++) {
    struct old_connection *c = &o->v[i];
    const enum fate fate = fate_of (c);

    if (fate == FATE_WAITS) {
      o->v[kept++] = *c;
      continue;
    }
    if (age_ms (c->since_us) > *delay_ms)
      *delay_ms = age_ms (c->since_us);
    o->doubt |= fate == FATE_GONE;
    drop (c->fd);
  }

  const bool any = kept < o->n;

  o->n = kept;
  return any;
}

uint64_t
old_connections_age_ms (const struct old_connections *o)
{
  uint64_t oldest = 0;

  for (size_t i = 0; i < o->n; i++)
    if (age_ms (o->v[i].since_us) > oldest)
      oldest = age_ms (o->v[i].since_us);
  return oldest;
}

void
old_connections_settle (struct old_connections *o)
{
  if (o->n == 0)
    o->doubt = false;
}

void
old_connections_close (struct old_connections *o)
{
  for (size_t i = 0; i < o->n; i++)
    drop (o->v[i].fd);
  o->n = 0;
}
