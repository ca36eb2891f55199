/* SPDX-License-Identifier: BSD-3-Clause */
/* Is every destination the disk that it is taken for?
 *
 * Names prove nothing: servers ignore export names, one file is served by two
 * servers, a balancer chooses among servers, a server gives each client a disk
 * of its own.  So before anything is copied a mark is written to each
 * destination, and looked for over every connection that matters:
 *
 *   the destination's own, the reader's, the relay's    must see it
 *   those of other destinations, and of all sources     must not
 *
 * Then the old bytes are put back.  What may be marked is what the next pass
 * overwrites anyway: a dirty chunk, under a lease.  So a migrator that dies in
 * between leaves nothing that a later run takes for copied (R7: its leases
 * become dirty, and quarantined).  A destination without such a chunk, which
 * lacks nothing since an earlier run, is not marked, only looked at.
 *
 * A destination could be a source itself, under another name, and a guest be
 * writing there.  So the place is one where the destination differs from all
 * sources while all gates are shut, if some are found: that is in no source, so
 * no guest sees the mark, and putting back undoes nothing.  If not (two empty
 * disks, or a copy of before) the gates are shut from the last look before the
 * mark until the old bytes are back, for --max-pause at most (R8).  If that was
 * not enough, or a guest's requests do not end in that time, what is put back
 * is what still holds the mark: a guest may have written there.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "trust/canary-internal.h"
#include "trust/canary.h"
#include "base/no-memory.h"
#include "cleanup.h"
#include "trust/digest.h"
#include "trust/look.h"
#include "protocol.h"
#include "base/say.h"
#include "uri.h"

/* ---- marks ------------------------------------------------------------- */

static int
make_mark (struct place *p)
{
  uint32_t i;

  p->mark = malloc (p->bytes);
  if (p->mark == NULL || getrandom (p->id, MARK_BYTES, 0) != MARK_BYTES) {
    failure_note (&p->d->disks->failure, "making a mark for %s: %s",
                  p->d->pair->destination, strerror (errno));
    return -1;
  }
  for (i = 0; i < p->bytes; ++i)
    p->mark[i] = (char)p->id[i % MARK_BYTES];
  return 0;
}

static int
make_marks (struct canary *c)
{
  size_t i;

  for (i = 0; i < c->disks->n; ++i)
    if (c->v[i].chosen && make_mark (&c->v[i]) == -1)
      return -1;
  return 0;
}

static bool
is_zero (const char *data, uint32_t bytes)
{
  return data[0] == 0 && memcmp (data, data + 1, bytes - 1) == 0;
}

/* Whose mark this is, or NULL. */
static const struct place *
whose (const struct canary *c, const char *data)
{
  size_t i;

  for (i = 0; i < c->disks->n; ++i)
    if (c->v[i].chosen && memcmp (data, c->v[i].id, MARK_BYTES) == 0)
      return &c->v[i];
  return NULL;
}

static int
fail_foreign (const struct place *p)
{
  failure_note (&p->d->disks->failure,
                "the destination %s does not keep what is written to it: what "
                "was written at offset %" PRIu64 " (%u bytes) is not what the "
                "same connection reads there.  Is it in use by somebody else "
                "who writes to it, or is it a disk of a guest under another "
                "name?  Give a destination that nobody uses",
                p->d->pair->destination, p->offset, p->bytes);
  return -1;
}

static int
fail_forgets (const struct place *p)
{
  failure_note (&p->d->disks->failure,
                "the destination %s does not keep what is written to it: what "
                "was written at offset %" PRIu64 " (%u bytes) is read as "
                "zeroes by the same connection, as from nbdkit's null plugin",
                p->d->pair->destination, p->offset, p->bytes);
  return -1;
}

/* One write of a mark, or of what was there before; thin stays thin. */
static void
add_write (struct looks *writes, const struct place *p, bool mark)
{
  const struct endpoint *e = p->d->destination;
  struct connection *over = e->connections[0];
  const bool zero = !mark && e->can_zero && is_zero (p->before, p->bytes);

  if (zero)
    looks_add (writes, over->can_fua ? LOOK_ZERO_THROUGH : LOOK_ZERO, e, over,
               p->offset, p->bytes, NULL);
  else
    looks_add (writes, over->can_fua ? LOOK_WRITE_THROUGH : LOOK_WRITE, e, over,
               p->offset, p->bytes, mark ? p->mark : p->before);
  if (!zero)
    p->d->marked_bytes += p->bytes;
}

/* Write to all chosen places, and flush: what a server without multi-conn was
 * given over one connection need not be seen over others before.  With FUA that
 * is one round trip.
 */
static int
write_all (struct canary *c, bool mark)
{
  CLEANUP_LOOKS struct looks writes = LOOKS_EMPTY, flushes = LOOKS_EMPTY;
  int result;
  size_t i;

  for (i = 0; i < c->disks->n; ++i) {
    struct place *p = &c->v[i];
    const struct endpoint *e = p->d->destination;

    if (!(mark ? p->chosen : p->marked && !p->leave))
      continue;
    p->marked = true;
    add_write (&writes, p, mark);
    if (!e->connections[0]->can_fua)
      looks_add (&flushes, LOOK_FLUSH, e, e->connections[0], 0, 0, NULL);
  }
  result = looks_run (c->disks, &writes);
  if (looks_run (c->disks, &flushes) == -1)
    result = -1;
  return result;
}

static bool
any_unproven (const struct canary *c)
{
  size_t i;

  for (i = 0; i < c->disks->n; ++i)
    if (c->v[i].chosen && !c->v[i].proven)
      return true;
  return false;
}

/* With the gates shut as well as they can be, if a guest could be writing
 * there: what the sources were not seen to be is no guest's.
 */
static void
shut_again (struct canary *c)
{
  if (!any_unproven (c) || c->disks->failure.stop == STOP_NO ||
      (c->shut && loop_now_us () < c->until_us))
    return;
  canary_open (c);
  c->missed = false;
  canary_shut (c);
}

/* Of another one's write nothing is undone: only what is seen to hold a mark,
 * ours or that of another destination, gets the old bytes back; or what cannot
 * be read, but is no source's.
 */
static void
leave_what_was_overwritten (struct canary *c)
{
  CLEANUP_LOOKS struct looks looks = LOOKS_EMPTY;
  size_t i, n = 0;

  for (i = 0; i < c->disks->n; ++i) {
    const struct place *p = &c->v[i];
    const struct endpoint *e = p->d->destination;

    if (p->marked)
      looks_add (&looks, LOOK_READ, e, e->connections[0], p->offset, p->bytes,
                 NULL);
  }
  looks_run (c->disks, &looks);
  for (i = 0; i < c->disks->n; ++i) {
    struct place *p = &c->v[i];
    const struct look *b;

    if (!p->marked)
      continue;
    b = &looks.v[n++];
    if (b->state == LOOK_ENDED && b->io.error == 0)
      p->leave = p->overwritten = whose (c, b->data) == NULL;
    else
      p->leave = !p->proven;
  }
}

/* What was seen to be in its place just now is put back at once. */
static void
put_back (struct canary *c)
{
  bool done;
  size_t i;

  shut_again (c);
  if (!c->just_seen)
    leave_what_was_overwritten (c);
  done = write_all (c, false) == 0;
  for (i = 0; i < c->disks->n; ++i) {
    struct place *p = &c->v[i];

    if (p->overwritten)
      fail_foreign (p);
    else if (done && !p->leave)
      p->marked = false;
    else if (p->marked)
      say_error ("what the destination %s held at offset %" PRIu64 " (%u "
                 "bytes) could not be put back: a mark is there now, which a "
                 "copy overwrites",
                 p->d->pair->destination, p->offset, p->bytes);
  }
}

/* ---- looking ----------------------------------------------------------- */

static int
fail_same (struct disks *disks, const struct place *p, bool source,
           const char *uri)
{
  failure_note (&disks->failure,
                "the destination %s and the %s %s are the same disk: what was "
                "written to the one at offset %" PRIu64 " was read from the "
                "other%s; every disk needs a destination of its own",
                p->d->pair->destination, source ? "source" : "destination", uri,
                p->offset,
                source ? ""
                       : " (many servers serve one disk under every export "
                         "name)");
  return -1;
}

static int
fail_differs (struct disks *disks, const struct place *p, const char *whose_own)
{
  failure_note (&disks->failure,
                "the connections to the destination %s reach different disks: "
                "what was written over one at offset %" PRIu64 " (%u bytes) is "
                "not what %s reads there.  Does that server give each client a "
                "disk of its own, or is there something between that chooses "
                "among servers (a balancer)?  Give the URI of one server that "
                "serves one disk to all its clients",
                p->d->pair->destination, p->offset, p->bytes, whose_own);
  return -1;
}

/* What one of our own connections read at the place. */
static int
judge_own (const struct canary *c, const struct place *p, const char *data,
           bool same_one)
{
  const struct place *other = whose (c, data);

  if (memcmp (data, p->mark, p->bytes) == 0)
    return 0;
  if (other != NULL && other != p)
    return fail_same (c->disks, p, false, other->d->pair->destination);
  if (same_one && is_zero (data, p->bytes))
    return fail_forgets (p);
  return same_one ? fail_foreign (p)
                  : fail_differs (c->disks, p, "another one");
}

static void
add_connections (struct looks *looks, const struct endpoint *e,
                 const struct place *p)
{
  unsigned i;

  for (i = 0; e != NULL && i < e->nr_connections; ++i)
    looks_add (looks, LOOK_READ, e, e->connections[i], p->offset, p->bytes,
               NULL);
}

/* One connection to each of the others: that theirs are one disk is seen by
 * their own marks.
 */
static void
add_others (struct looks *looks, const struct canary *c, const struct place *p)
{
  const struct disks *disks = c->disks;
  size_t i;

  for (i = 0; i < disks->n; ++i) {
    const struct disk *d = &disks->v[i];

    if (d != p->d && canary_fits (d->destination, p))
      looks_add (looks, LOOK_READ, d->destination, NULL, p->offset, p->bytes,
                 NULL);
    if (canary_fits (d->source, p))
      looks_add (looks, LOOK_READ, d->source, NULL, p->offset, p->bytes, NULL);
  }
}

static int
judge_others (const struct canary *c, const struct place *p,
              const struct look *v, size_t n)
{
  struct disks *disks = c->disks;
  size_t i, k;

  for (i = 0; i < n; ++i) {
    const struct endpoint *e = v[i].where;

    if (memcmp (v[i].data, p->id, MARK_BYTES) != 0)
      continue;
    for (k = 0; k < disks->n; ++k)
      if (disks->v[k].source == e)
        return fail_same (disks, p, true, e->uri);
    return fail_same (disks, p, false, e->uri);
  }
  return 0;
}

/* What is read of all places, in one round trip. */
static int
look_all (const struct canary *c)
{
  CLEANUP_LOOKS struct looks looks = LOOKS_EMPTY;
  size_t i, k;

  for (i = 0; i < c->disks->n; ++i) {
    struct place *p = &c->v[i];

    if (!p->chosen)
      continue;
    p->others = looks.n;
    add_others (&looks, c, p);
    p->own = looks.n;
    add_connections (&looks, p->d->destination, p);
    add_connections (&looks, p->d->reader, p);
    p->own_end = looks.n;
  }
  if (looks_run (c->disks, &looks) == -1)
    return -1;
  for (i = 0; i < c->disks->n; ++i) {
    const struct place *p = &c->v[i];

    if (!p->chosen)
      continue;
    if (judge_others (c, p, &looks.v[p->others], p->own - p->others) == -1)
      return -1;
    for (k = p->own; k < p->own_end; ++k)
      if (judge_own (c, p, looks.v[k].data, k == p->own) == -1)
        return -1;
  }
  return 0;
}

/* ---- the relay --------------------------------------------------------- */

static json_t *
read_back_arguments (const struct place *p)
{
  if (!p->chosen || p->d->disks->finish != FINISH_PIVOT ||
      uri_is_local (p->d->pair->destination) || p->connection >= p->connections)
    return NULL;
  return need_memory (json_pack ("{s:[[I, I]], s:i}", "extents",
                                 (json_int_t)p->offset, (json_int_t)p->bytes,
                                 "connection", (int)p->connection));
}

/* Whether that connection saw the mark, and how many there are. */
static bool
relay_saw (struct place *p)
{
  const json_t *value = p->d->answer.value;
  const char *digest =
    json_string_value (json_array_get (json_object_get (value, "sha256"), 0));
  char expected[DIGEST_TEXT_BYTES];
  uint64_t n = 0;

  protocol_get_u64 (value, "connections", &n);
  p->connections = (unsigned)n;
  p->connection++;
  return digest_data (p->mark, p->bytes, expected) == 0 && digest != NULL &&
         strcmp (digest, expected) == 0;
}

/* The first connection is there since the pivot was prepared; how many there
 * are comes with each answer.
 */
static int
look_over_relay (struct canary *c)
{
  bool asked;
  size_t i;

  for (i = 0; i < c->disks->n; ++i)
    c->v[i].connections = 1;
  do {
    asked = false;
    if (canary_ask (c, "read-back", read_back_arguments) == -1)
      return -1;
    for (i = 0; i < c->disks->n; ++i) {
      if (c->v[i].d->answer.value == NULL)
        continue;
      asked = true;
      c->just_seen = false;
      if (!relay_saw (&c->v[i]))
        return fail_differs (c->disks, &c->v[i], "the proxy's own connection");
    }
  } while (asked);
  return 0;
}

/* ---- all of it --------------------------------------------------------- */

static int
look (struct canary *c)
{
  if (look_all (c) == -1)
    return -1;
  c->just_seen = true;
  return look_over_relay (c);
}

/* Nothing shows that these are in no source: no guest writes nor reads there
 * from now on, and what they hold now is what is put back.
 */
static int
shut_unproven (struct canary *c)
{
  size_t i;

  if (!any_unproven (c))
    return 0;
  if (canary_shut (c) == -1)
    return -1;
  for (i = 0; i < c->disks->n; ++i)
    if (c->v[i].chosen && !c->v[i].proven &&
        canary_look_before (c, &c->v[i]) == -1)
      return -1;
  return 0;
}

static int
mark_and_look (struct canary *c)
{
  int result = -1;

  if (canary_choose_places (c) == 0 && make_marks (c) == 0) {
    if (shut_unproven (c) == 0) {
      if (write_all (c, true) == 0)
        result = look (c);
      put_back (c);
    }
    canary_open (c);
  }
  if (canary_give_back (c) == -1)
    result = -1;
  return result;
}

int
canary_check (struct disks *disks)
{
  struct canary c = { .disks = disks, .v = calloc (disks->n, sizeof *c.v) };
  int result;
  size_t i;

  if (c.v == NULL) {
    failure_note (&disks->failure, "looking at the destinations: no memory");
    return -1;
  }
  for (i = 0; i < disks->n; ++i)
    c.v[i].d = &disks->v[i];
  result = mark_and_look (&c);
  for (i = 0; i < disks->n; ++i) {
    free (c.v[i].mark);
    free (c.v[i].before);
    extents_free (&c.v[i].top);
  }
  free (c.v);
  return disks->failure.stop == STOP_NO ? result : -1;
}
