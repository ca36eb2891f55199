/* SPDX-License-Identifier: BSD-3-Clause */
/* The loop of the guest: reap, choose, put on record, send, wait. */

#include "guest.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>
#include <libnbd.h>

#include "util.h"

#define TICK_MS 10 /* how often the conditions of the end are looked at */

static volatile sig_atomic_t signalled;

static void
on_signal (int sig)
{
  signalled = sig;
}

/* ---- Sending ----------------------------------------------------------- */

/* The connection with the fewest requests, if it may have one more. */
static struct connection *
free_connection (struct guest *g)
{
  const size_t start = rng_below (&g->rng, g->nr_conns);
  struct connection *best = NULL;

  for (size_t i = 0; i < g->nr_conns; i++) {
    struct connection *const c = &g->conns[(start + i) % g->nr_conns];

    if (!c->dead && c->in_flight < g->conn_depth &&
        (best == NULL || c->in_flight < best->in_flight))
      best = c;
  }
  return best;
}

/* Whether the rate allows to send now; if so, the request is charged. */
static bool
rate_allows (struct guest *g)
{
  const int64_t now = now_mono_us ();

  if (g->o->rate == 0)
    return true;
  if (g->next_write_mono_us > now)
    return false;
  if (g->next_write_mono_us < now - 100000)
    g->next_write_mono_us = now - 100000;
  return true;
}

static void
charge (struct guest *g, const struct slot *s)
{
  if (g->o->rate != 0 && (s->kind == OP_WRITE || s->kind == OP_WRITE_FUA))
    g->next_write_mono_us += s->length * INT64_C (1000000) / g->o->rate;
}

/* Fill the free slots.  All of them are put on record before the first is
 * sent.
 */
static void
send_more (struct guest *g)
{
  struct connection *c;
  size_t i;

  for (i = 0; i < g->nr_slots; i++) {
    struct slot *const s = &g->slots[i];

    if (s->conn != NULL)
      continue;
    c = free_connection (g);
    if (c == NULL || !rate_allows (g) || !guest_choose (g, c->disk, s))
      break;
    s->conn = c;
    guest_record (g, s);
    record_write (&g->record);
    guest_send (g, s);
    charge (g, s);
  }
}

/* ---- Waiting ----------------------------------------------------------- */

static size_t
reap_all (struct guest *g)
{
  size_t in_flight = 0;

  for (size_t i = 0; i < g->nr_slots; i++) {
    if (g->slots[i].conn == NULL)
      continue;
    if (g->slots[i].done)
      guest_reap (g, &g->slots[i]);
    else
      in_flight++;
  }
  record_write (&g->record);
  return in_flight;
}

/* A server that ends closes its idle connections at any time, also before it
 * answers over another.
 */
static bool
may_be_lost (const struct guest *g, const struct connection *c)
{
  return g->o->expect_disconnect || g->count.shutdowns > 0 ||
         (g->o->expect_shutdown && c->in_flight == 0);
}

/* What was in flight on a lost connection will not be answered.  A guest that
 * has nothing in flight notices as well.
 */
static void
bury (struct guest *g, struct connection *c)
{
  c->dead = true;
  g->disconnected = g->stopping = true;
  if (!may_be_lost (g, c)) {
    if (!g->failed)
      say ("%s: the connection was lost", g->o->uris[c->disk]);
    g->failed = true;
  }
  for (size_t i = 0; i < g->nr_slots; i++) {
    struct slot *const s = &g->slots[i];

    if (s->conn != c || s->done)
      continue;
    s->error = ENOTCONN;
    s->ended_mono_us = now_mono_us ();
    s->ended_real_us = now_real_us ();
    s->done = true;
  }
}

static void
notify (struct connection *c, short revents)
{
  const unsigned direction = nbd_aio_get_direction (c->nbd);

  if ((direction & LIBNBD_AIO_DIRECTION_READ) &&
      (revents & (POLLIN | POLLHUP | POLLERR)))
    nbd_aio_notify_read (c->nbd);
  else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) &&
           (revents & (POLLOUT | POLLHUP | POLLERR)))
    nbd_aio_notify_write (c->nbd);
}

static void
wait_for_events (struct guest *g, struct pollfd *fds)
{
  size_t i;

  for (i = 0; i < g->nr_conns; i++) {
    struct connection *const c = &g->conns[i];
    const unsigned direction = c->dead ? 0 : nbd_aio_get_direction (c->nbd);

    fds[i].fd = c->dead ? -1 : nbd_aio_get_fd (c->nbd);
    fds[i].revents = 0;
    fds[i].events = (direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                    (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
  }
  if (poll (fds, g->nr_conns, g->o->rate ? 1 : TICK_MS) == -1)
    return; /* a signal */
  for (i = 0; i < g->nr_conns; i++) {
    struct connection *const c = &g->conns[i];

    if (c->dead)
      continue;
    if (fds[i].revents != 0)
      notify (c, fds[i].revents);
    if (nbd_aio_is_dead (c->nbd) || nbd_aio_is_closed (c->nbd)) {
      reap_all (g); /* the last answer may say that the server ends */
      bury (g, c);
    }
  }
}

static bool
time_to_stop (const struct guest *g, int64_t end_mono_us)
{
  return g->stopping || signalled ||
         (g->o->max_ops != 0 && g->ops >= g->o->max_ops) ||
         (end_mono_us != 0 && now_mono_us () >= end_mono_us) ||
         (g->o->until_file != NULL && access (g->o->until_file, F_OK) == 0);
}

static void
loop (struct guest *g)
{
  struct pollfd *const fds = xcalloc (g->nr_conns, sizeof *fds);
  const int64_t end_mono_us =
    g->o->seconds ? now_mono_us () + (int64_t)g->o->seconds * 1000000 : 0;

  for (;;) {
    const size_t in_flight = reap_all (g);

    g->stopping = time_to_stop (g, end_mono_us);
    if (g->stopping && in_flight == 0)
      break;
    if (!g->stopping)
      send_more (g);
    wait_for_events (g, fds);
  }
  free (fds);
}

/* ---- Beginning and end ------------------------------------------------- */

static void
start (struct guest *g)
{
  struct record *const r = &g->record;

  r->layout.seed = g->o->seed;
  r->layout.max_cells = g->o->max_cells;
  r->layout.align = g->o->align;
  r->layout.disks = g->o->disks;
  if (g->o->resume)
    record_load (r, g->o->log, 1);
  else
    initial_parse (&r->initial, g->o->initial ? g->o->initial : "zero");
  /* They cover what no cell does. */
  if (strchr (g->o->kinds, OP_ZERO_LONG) && r->initial.kind != INITIAL_ZERO)
    die (EXIT_USAGE, "--kinds: L needs a disk that is zero at first");
  if (r->layout.disks != g->o->disks)
    die (EXIT_USAGE, "the record has %" PRIu32 " disks, not %" PRIu32,
         r->layout.disks, g->o->disks);
  say ("seed %" PRIu64, r->layout.seed);
  guest_connect (g);
  if (!g->o->resume)
    record_create (r, g->o->log);
  if (g->o->lost_cache)
    record_lost_cache (r);
  g->rng.state = content_mix (r->layout.seed) + r->n;
  g->busy = xcalloc (r->layout.n, 1);
  g->nr_slots = g->o->depth;
  g->slots = xcalloc (g->nr_slots, sizeof *g->slots);
  for (size_t i = 0; i < g->nr_slots; i++)
    g->slots[i].buf = xcalloc (1, GUEST_REQUEST_MAX);
}

static const char *
how_it_ended (const struct guest *g)
{
  if (g->wrong)
    return "wrong";
  if (g->failed)
    return "failed";
  if (g->count.shutdowns > 0)
    return "shutdown";
  return g->disconnected ? "disconnected" : "stopped";
}

static void
report (const struct guest *g)
{
  const struct counters *const c = &g->count;
  json_t *const json = json_pack (
    "{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "seed",
    (json_int_t)g->record.layout.seed, "ended", how_it_ended (g), "reads",
    (json_int_t)c->reads, "writes", (json_int_t)c->writes, "zeroes",
    (json_int_t)c->zeroes, "trims", (json_int_t)c->trims, "flushes",
    (json_int_t)c->flushes, "written_bytes", (json_int_t)c->written_bytes,
    "errors", (json_int_t)c->errors, "shutdowns", (json_int_t)c->shutdowns,
    "longest_write_ms", c->longest_write_us / 1000.0, "longest_write_at",
    c->longest_write_at_us / 1e6);

  json_dumpf (json, stdout, JSON_COMPACT);
  putchar ('\n');
  json_decref (json);
}

int
guest_run (const struct guest_options *o)
{
  struct guest g = { .o = o };
  const struct sigaction action = { .sa_handler = on_signal };

  sigaction (SIGTERM, &action, NULL);
  sigaction (SIGINT, &action, NULL);
  start (&g);
  loop (&g);
  if (g.count.shutdowns == 0 && !g.disconnected)
    guest_final_flush (&g);
  record_write (&g.record);
  report (&g);
  guest_close (&g);
  for (size_t i = 0; i < g.nr_slots; i++)
    free (g.slots[i].buf);
  free (g.slots);
  free (g.busy);
  record_free (&g.record);
  if (g.wrong)
    return EXIT_WRONG;
  return g.failed ? EXIT_BROKEN : EXIT_GOOD;
}
