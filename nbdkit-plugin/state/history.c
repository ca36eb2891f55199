/* SPDX-License-Identifier: BSD-3-Clause */
/* Every doubt (no memory, an address that cannot be had, too many names) ends
 * in an incomplete history: then a zero is written where it could have been
 * left out, which costs time only.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "history.h"

#define NAMES_MAX 256 /* of earlier destinations */

static void
names_clear (struct history_names *names)
{
  for (size_t i = 0; i < names->n; i++)
    free (names->v[i].bytes);
  free (names->v);
  *names = (struct history_names){ 0 };
}

static bool
names_have (const struct history_names *names, const void *bytes, size_t length)
{
  for (size_t i = 0; i < names->n; i++)
    if (names->v[i].length == length &&
        memcmp (names->v[i].bytes, bytes, length) == 0)
      return true;
  return false;
}

/* False: no memory. */
static bool
names_add (struct history_names *names, const void *bytes, size_t length)
{
  struct history_name *v;
  void *copy;

  if (names_have (names, bytes, length))
    return true;
  v = reallocarray (names->v, names->n + 1, sizeof *v);
  if (v == NULL)
    return false;
  names->v = v;
  copy = malloc (length);
  if (copy == NULL)
    return false;
  memcpy (copy, bytes, length);
  v[names->n++] = (struct history_name){ copy, length };
  return true;
}

/* False: no memory, or not connected. */
static bool
names_add_peer (struct history_names *names, int fd)
{
  struct sockaddr_storage peer;
  socklen_t length = sizeof peer;

  return getpeername (fd, (struct sockaddr *)&peer, &length) == 0 &&
         length <= sizeof peer && names_add (names, &peer, length);
}

/* A URI and an address are never alike: an address begins with its family. */
static bool
names_collect (struct history_names *names, const char *uri, const int *fds,
               size_t nr_fds)
{
  bool all = names_add (names, uri, strlen (uri));

  for (size_t i = 0; i < nr_fds; i++)
    all = names_add_peer (names, fds[i]) && all;
  return all;
}

/* How many names of one are in the other. */
static size_t
names_common (const struct history_names *a, const struct history_names *b)
{
  size_t n = 0;

  for (size_t i = 0; i < a->n; i++)
    n += names_have (b, a->v[i].bytes, a->v[i].length);
  return n;
}

static enum history_past
past_of (const struct history *h, const struct history_names *now)
{
  const size_t latest = names_common (now, &h->latest);

  /* If it shares some names only, W is right for a part of it at best. */
  if (latest == now->n)
    return PAST_LATEST;
  if (!h->complete || latest > 0 || names_common (now, &h->earlier) > 0)
    return PAST_UNKNOWN;
  return PAST_NOTHING;
}

bool
history_add_earlier (struct history *h, const void *bytes, size_t length)
{
  return h->earlier.n < NAMES_MAX && names_add (&h->earlier, bytes, length);
}

/* The latest one is the latest no more. */
static void
retire_latest (struct history *h)
{
  const struct history_names *latest = &h->latest;

  for (size_t i = 0; i < latest->n && h->complete; i++)
    h->complete =
      history_add_earlier (h, latest->v[i].bytes, latest->v[i].length);
  if (!h->complete)
    names_clear (&h->earlier); /* they make no difference any more */
  names_clear (&h->latest);
}

void
history_forget (struct history *h)
{
  h->complete = false;
  retire_latest (h);
}

void
history_init (struct history *h)
{
  *h = (struct history){ .complete = false };
}

void
history_destroy (struct history *h)
{
  names_clear (&h->latest);
  names_clear (&h->earlier);
}

enum history_past
history_meet (struct history *h, const char *uri, const int *fds, size_t nr_fds)
{
  struct history_names now = { 0 };
  enum history_past past;

  if (!names_collect (&now, uri, fds, nr_fds)) {
    /* Under a name that is not known here it may come again. */
    names_clear (&now);
    history_forget (h);
    return PAST_UNKNOWN;
  }
  past = past_of (h, &now);
  if (past == PAST_LATEST) {
    names_clear (&now);
    return past;
  }
  retire_latest (h);
  h->latest = now;
  return past;
}
