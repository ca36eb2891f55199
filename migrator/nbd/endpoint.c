/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/no-memory.h"
#include "announcement.h"
#include "cleanup.h"
#include "nbd/endpoint.h"
#include "nbd-error.h"
#include "nbd-limits.h"

static int
learn (struct endpoint *e, struct nbd_handle *nbd,
       const struct connection_options *options)
{
  const int64_t size = nbd_get_size (nbd);
  const int64_t minimum = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  const int64_t maximum = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);

  if (size < 0)
    return -1;
  e->disk_bytes = (uint64_t)size;
  e->minimum_bytes = minimum > 0 ? (uint32_t)minimum : 1;
  e->maximum_bytes = NBD_DATA_MAX_UNSTATED;
  if (maximum > 0 && maximum < NBD_DATA_MAX_UNSTATED)
    e->maximum_bytes = (uint32_t)maximum;
  e->zero_maximum_bytes = nbd_zero_max (maximum);
  e->read_only = nbd_is_read_only (nbd) != 0;
  e->can_flush = nbd_can_flush (nbd) == 1;
  e->can_zero = nbd_can_zero (nbd) == 1;
  e->multi_conn = nbd_can_multi_conn (nbd) == 1;
  e->has_allocation =
    options->allocation &&
    nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  e->has_depth = options->depth_context != NULL &&
                 nbd_can_meta_context (nbd, options->depth_context) == 1;
  e->export_name = nbd_get_export_name (nbd);
  e->description = nbd_get_export_description (nbd);
  return e->export_name != NULL ? 0 : -1;
}

struct endpoint *
endpoint_open_ahead (struct loop *loop, const char *uri,
                     const struct connection_options *options,
                     const struct connection_options *others, unsigned wanted,
                     int interrupt_fd, char **why)
{
  struct endpoint *e = calloc (1, sizeof *e);
  const int64_t begin_us = loop_now_us ();

  *why = NULL;
  if (e == NULL)
    return NULL;
  e->uri = uri;
  e->ahead.options = others;
  e->ahead.wanted = wanted;
  e->connections[0] =
    connection_open_first (loop, uri, options, interrupt_fd, &e->ahead, why);
  if (e->connections[0] == NULL) {
    free (e);
    return NULL;
  }
  e->nr_connections = 1;
  e->connect_us = loop_now_us () - begin_us;
  if (learn (e, e->connections[0]->nbd, options) == -1) {
    *why = strdup (nbd_error_text (nbd_get_error ()));
    endpoint_close (e);
    return NULL;
  }
  if (!e->multi_conn)
    connection_forget_ahead (&e->ahead);
  return e;
}

struct endpoint *
endpoint_open (struct loop *loop, const char *uri,
               const struct connection_options *options, int interrupt_fd,
               char **why)
{
  return endpoint_open_ahead (loop, uri, options, NULL, 0, interrupt_fd, why);
}

/* ---- more connections -------------------------------------------------- */

void
endpoint_narrow (struct endpoint *e)
{
  while (e->nr_connections > 1)
    connection_close (e->connections[--e->nr_connections]);
}

/* How two openings of one URI differ; NULL: no memory. */
typedef char *describe (const char *what, const char *first, const char *other);

static char *
describe_difference (const char *what, const char *first, const char *other)
{
  char *text;

  if (asprintf (&text,
                "the connections of this URI reach different disks (%s: %s and "
                "%s): is there something between that chooses among servers (a "
                "balancer), or was the server restarted?  Give the URI of one "
                "server and run it again",
                what, first, other) == -1)
    return NULL;
  return text;
}

static char *
describe_change (const char *what, const char *first, const char *other)
{
  char *text;

  return asprintf (&text, "%s: %s before, %s now", what, first, other) == -1
           ? NULL
           : text;
}

/* Whatever the first connection told is relied upon on all of them. */
static bool
facts_differ (const struct endpoint *a, const struct endpoint *b,
              describe *words, char **why)
{
  const struct {
    const char *name;
    uint64_t a, b;
  } facts[] = {
    { "bytes", a->disk_bytes, b->disk_bytes },
    { "bytes of the minimum block", a->minimum_bytes, b->minimum_bytes },
    { "bytes of the maximum block", a->maximum_bytes, b->maximum_bytes },
    { "read-only", a->read_only, b->read_only },
    { "flush offered", a->can_flush, b->can_flush },
    { "write-zeroes offered", a->can_zero, b->can_zero },
    { "multi-conn offered", a->multi_conn, b->multi_conn },
    { "base:allocation offered", a->has_allocation, b->has_allocation },
    { "allocation depth offered", a->has_depth, b->has_depth },
  };
  char first[24], other[24];
  size_t i;

  for (i = 0; i < sizeof facts / sizeof facts[0]; ++i)
    if (facts[i].a != facts[i].b) {
      snprintf (first, sizeof first, "%" PRIu64, facts[i].a);
      snprintf (other, sizeof other, "%" PRIu64, facts[i].b);
      *why = words (facts[i].name, first, other);
      return true;
    }
  return false;
}

/* Two disks may look alike; a proxy tells which one it serves. */
static bool
ids_differ (const struct endpoint *a, const struct endpoint *b, describe *words,
            char **why)
{
  CLEANUP_FREE char *first = endpoint_announcement (a, ANNOUNCE_ID);
  CLEANUP_FREE char *other = endpoint_announcement (b, ANNOUNCE_ID);

  if (strcmp (first ? first : "", other ? other : "") == 0)
    return false;
  *why = words ("id", first ? first : "none", other ? other : "none");
  return true;
}

static bool
any_differs (const struct endpoint *e, const struct endpoint *other,
             describe *words, char **why)
{
  *why = NULL;
  return facts_differ (e, other, words, why) ||
         ids_differ (e, other, words, why);
}

bool
endpoint_differs (const struct endpoint *e, const struct endpoint *other,
                  char **why)
{
  return any_differs (e, other, describe_difference, why);
}

/* Does a further connection reach another export than the first one did?  (That
 * one may have asked for more.)
 */
static bool
differs (const struct endpoint *e, const struct connection *c,
         const struct connection_options *options, describe *words, char **why)
{
  struct endpoint other = { 0 };
  bool differ = true;

  if (learn (&other, c->nbd, options) == -1)
    *why = strdup (nbd_error_text (nbd_get_error ()));
  else {
    if (!options->allocation)
      other.has_allocation = e->has_allocation;
    differ = any_differs (e, &other, words, why);
  }
  free (other.export_name);
  free (other.description);
  return differ;
}

/* A server that admits no more may say so by its silence: not for long,
 * measured by how long the first connection took.
 */
static struct connection_options
hurry (const struct endpoint *e, const struct connection_options *options)
{
  struct connection_options hurried = *options;

  hurried.connect_ms = ENDPOINT_WIDEN_MS;
  if (e->connect_us > ENDPOINT_WIDEN_MS * INT64_C (1000) / 8)
    hurried.connect_ms = (unsigned)(e->connect_us * 8 / 1000);
  return hurried;
}

/* Of so many, if the server admits no more than these and somebody else needs
 * some.
 */
static unsigned
fair_share (unsigned admitted, unsigned others)
{
  if (others > admitted / 2)
    others = admitted / 2;
  return admitted - others;
}

static void
close_all (struct connection *v[], unsigned n)
{
  while (n > 0)
    connection_close (v[--n]);
}

enum endpoint_widened
endpoint_widen (struct endpoint *e, struct loop *loop,
                const struct connection_options *options,
                const struct endpoint_wanted *wanted, int interrupt_fd,
                char **why)
{
  const struct connection_options hurried = hurry (e, options);
  struct connection *v[ENDPOINT_CONNECTIONS_MAX + ENDPOINT_OTHERS_MAX];
  unsigned n, come, use, i;
  char *difference;

  *why = NULL;
  if (!e->multi_conn || wanted->connections <= e->nr_connections) {
    connection_forget_ahead (&e->ahead);
    return ENDPOINT_WIDENED;
  }
  assert (wanted->connections <= ENDPOINT_CONNECTIONS_MAX &&
          wanted->others <= ENDPOINT_OTHERS_MAX);
  n = wanted->connections - e->nr_connections + wanted->others;
  come = connection_open_several (loop, e->uri, &hurried, interrupt_fd,
                                  &e->ahead, v, n, why);
  connection_forget_ahead (&e->ahead);
  for (i = 0; i < come; ++i)
    if (differs (e, v[i], options, describe_difference, &difference)) {
      close_all (v, come);
      endpoint_narrow (e);
      free (*why);
      *why = difference;
      return ENDPOINT_DIFFERS;
    }
  use = wanted->connections;
  if (come < n) {
    use = fair_share (e->nr_connections + come, wanted->others);
    if (use > wanted->connections)
      use = wanted->connections;
  }
  while (e->nr_connections + come > use)
    connection_close (v[--come]);
  for (i = 0; i < come; ++i)
    endpoint_add (e, v[i]);
  return use == wanted->connections ? ENDPOINT_WIDENED : ENDPOINT_NOT_ADMITTED;
}

/* At least: TCP, the greeting, and two options. */
#define ROUND_TRIPS_TO_CONNECT 4

/* A busy machine makes a near server look far, but not each time. */
int64_t
endpoint_distance_us (const struct endpoint *e)
{
  int64_t us = e->connect_us / ROUND_TRIPS_TO_CONNECT;
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i) {
    const int64_t quickest_us = e->connections[i]->quickest_us;

    if (quickest_us != 0 && quickest_us < us)
      us = quickest_us;
  }
  return us;
}

bool
endpoint_is_unix (const struct endpoint *e)
{
  struct sockaddr_storage addr;
  socklen_t len = sizeof addr;

  return getsockname (e->connections[0]->sock, (struct sockaddr *)&addr,
                      &len) == 0 &&
         addr.ss_family == AF_UNIX;
}

void
endpoint_exchange_first (struct endpoint *e, struct loop *loop,
                         const struct connection_options *options,
                         int interrupt_fd)
{
  const struct connection_options hurried = hurry (e, options);
  struct connection *c;
  char *why = NULL;

  assert (e->nr_connections == 1);
  c = connection_open (loop, e->uri, &hurried, interrupt_fd, &why);
  if (c != NULL && !differs (e, c, options, describe_difference, &why)) {
    connection_close (e->connections[0]);
    e->connections[0] = c;
    c->wire = e->wire;
  }
  else
    connection_close (c);
  free (why);
}

bool
endpoint_matches (const struct endpoint *e, const struct connection *c,
                  const struct connection_options *options, char **why)
{
  return !differs (e, c, options, describe_difference, why);
}

bool
endpoint_is_same (const struct endpoint *e, const struct connection *c,
                  const struct connection_options *options, char **why)
{
  return !differs (e, c, options, describe_change, why);
}

void
endpoint_add (struct endpoint *e, struct connection *c)
{
  assert (e->nr_connections < ENDPOINT_CONNECTIONS_MAX);
  e->connections[e->nr_connections++] = c;
  c->wire = e->wire;
}

char *
endpoint_drop_broken (struct endpoint *e)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i) {
    struct connection *c = e->connections[i];
    char *why;

    if (connection_alive (c) || !connection_holds_nothing (c))
      continue;
    why = strdup (c->why);
    e->connections[i] = e->connections[--e->nr_connections];
    connection_close (c);
    return why;
  }
  return NULL;
}

struct endpoint *
endpoint_split (struct endpoint *e, unsigned n)
{
  struct endpoint *other = malloc (sizeof *other);

  assert (n < e->nr_connections);
  if (other == NULL)
    no_memory ();
  *other = *e;
  other->export_name = copy_text (e->export_name);
  other->description = e->description ? copy_text (e->description) : NULL;
  other->ahead.n = 0;
  other->nr_connections = n;
  e->nr_connections -= n;
  memcpy (other->connections, e->connections + e->nr_connections,
          n * sizeof *other->connections);
  return other;
}

/* ---- in use ------------------------------------------------------------ */

void
endpoint_close (struct endpoint *e)
{
  unsigned i;

  if (e == NULL)
    return;
  for (i = 0; i < e->nr_connections; ++i)
    connection_close (e->connections[i]);
  connection_forget_ahead (&e->ahead);
  free (e->export_name);
  free (e->description);
  free (e);
}

struct connection *
endpoint_idle (const struct endpoint *e, unsigned connections, unsigned depth)
{
  struct connection *best = NULL;
  unsigned i, seen = 0;

  for (i = 0; i < e->nr_connections && seen < connections; ++i) {
    struct connection *c = e->connections[i];

    if (!connection_alive (c))
      continue;
    seen++;
    if (c->in_flight < depth &&
        (best == NULL || c->in_flight < best->in_flight))
      best = c;
  }
  return best;
}

bool
endpoint_any_alive (const struct endpoint *e)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    if (connection_alive (e->connections[i]))
      return true;
  return false;
}

unsigned
endpoint_in_flight (const struct endpoint *e)
{
  unsigned i, n = 0;

  for (i = 0; i < e->nr_connections; ++i)
    n += e->connections[i]->in_flight;
  return n;
}

const char *
endpoint_broken (const struct endpoint *e)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    if (!connection_alive (e->connections[i]))
      return e->connections[i]->why;
  return NULL;
}

const char *
endpoint_lost (const struct endpoint *e)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i) {
    const struct connection *c = e->connections[i];

    if (!connection_alive (c) && !connection_holds_nothing (c))
      return c->why;
  }
  return NULL;
}

void
endpoint_check (struct endpoint *e, int64_t now_us, int64_t stopped_us)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    connection_check (e->connections[i], now_us, stopped_us);
}

void
endpoint_leave (struct endpoint *e, bool leave)
{
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i)
    connection_leave (e->connections[i],
                      leave && e->connections[i]->in_flight > 0);
}

void
endpoint_goodbye (struct endpoint *e)
{
  for (unsigned i = 0; i < e->nr_connections; ++i)
    connection_goodbye (e->connections[i]);
}

/* Since when the oldest request has waited and none was answered; 0: there is
 * none.  Either all count, or only what something depends on: a server that
 * answers probes may still be stuck with a write.
 */
static int64_t
silent_since (const struct endpoint *e, bool probes)
{
  int64_t oldest_us = 0, answered_us = 0;
  unsigned i;

  for (i = 0; i < e->nr_connections; ++i) {
    const struct connection *c = e->connections[i];
    const int64_t us = connection_oldest_us (c, probes);
    const int64_t last_us = probes ? c->answered_us : c->worked_us;

    if (us != 0 && (oldest_us == 0 || us < oldest_us))
      oldest_us = us;
    if (last_us > answered_us)
      answered_us = last_us;
  }
  return oldest_us != 0 && answered_us > oldest_us ? answered_us : oldest_us;
}

int64_t
endpoint_silent_us (const struct endpoint *e, int64_t now_us)
{
  const int64_t all = silent_since (e, true), work = silent_since (e, false);

  if (all == 0)
    return 0;
  return now_us - (work != 0 && work < all ? work : all);
}

char *
endpoint_announcement (const struct endpoint *e, const char *key)
{
  char *value;

  errno = 0;
  value = announcement_find (e->description, key);
  if (value == NULL && errno == ENOMEM)
    no_memory (); /* it would count as not announced */
  return value;
}
