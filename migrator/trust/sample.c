/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "base/no-memory.h"
#include "trust/digest.h"
#include "disks/drive.h"
#include "nbd/probe.h"
#include "trust/look.h"
#include "protocol.h"
#include "trust/sample.h"
#include "uri.h"

#define SAMPLE_US (INT64_C (3) * 1000000)
#define QUESTION_SPOTS 8 /* that the proxy reads before it is asked again */

void
sample_add (struct sample *s, struct disk *d, uint64_t wish, bool exact)
{
  if (s->n == s->allocated) {
    s->allocated = s->allocated ? 2 * s->allocated : 64;
    s->v = reallocarray (s->v, s->allocated, sizeof *s->v);
    if (s->v == NULL)
      no_memory ();
  }
  s->v[s->n++] = (struct spot){ .d = d, .wish = wish, .exact = exact };
}

void
sample_free (struct sample *s)
{
  free (s->v);
  s->v = NULL;
  s->n = s->allocated = 0;
}

/* ---- leases ------------------------------------------------------------ */

/* Whole blocks of both sides, not across the chunk's end. */
static void
choose_range (struct spot *p, bool exact)
{
  struct disk *d = p->d;
  const uint64_t end = p->chunk.offset + p->chunk.length;
  const uint64_t parts = (p->chunk.length + SAMPLE_BYTES - 1) / SAMPLE_BYTES;

  p->offset = p->chunk.offset;
  if (exact && p->wish >= p->chunk.offset && p->wish < end)
    p->offset += (p->wish - p->chunk.offset) / SAMPLE_BYTES * SAMPLE_BYTES;
  else
    p->offset += random_below (&d->disks->random, parts) * SAMPLE_BYTES;
  p->bytes =
    end - p->offset < SAMPLE_BYTES ? (uint32_t)(end - p->offset) : SAMPLE_BYTES;
}

static void
leased (void *opaque, const struct control_answer *a)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  struct spot *p = opaque;
  const char *why = a->desc;

  p->answered = true;
  if (a->value == NULL ||
      protocol_parse_extents (json_object_get (a->value, "extents"), &e,
                              &why) == -1) {
    failure_note_for_good (&p->d->disks->failure, "leasing a chunk of %s: %s",
                           p->d->pair->source, why ? why : "no memory");
    return;
  }
  if (e.n == 0)
    return;
  p->chunk = e.v[0];
  choose_range (p, p->exact);
}

/* An earlier spot of the disk that asks for the same chunk, or NULL. */
static struct spot *
find_other (const struct sample *s, size_t i)
{
  const struct spot *p = &s->v[i];
  const uint64_t bytes = p->d->chunk_bytes;

  while (i-- > 0 && s->v[i].d == p->d)
    if (s->v[i].other == NULL && s->v[i].wish / bytes == p->wish / bytes)
      return &s->v[i];
  return NULL;
}

/* Both look at the one chunk, if it could be had. */
static void
share (struct spot *p)
{
  const struct extent *x = &p->other->chunk;

  if (x->length == 0 || p->wish < x->offset || p->wish - x->offset >= x->length)
    return;
  p->chunk = *x;
  choose_range (p, p->exact);
}

/* All at once: the proxies answer in order. */
static int
lease_all (struct sample *s)
{
  const char *command = s->lease == SAMPLE_DIRTY ? "take" : "compare";
  size_t i;

  for (i = 0; i < s->n; ++i) {
    s->v[i].other = find_other (s, i);
    s->v[i].answered = s->v[i].other != NULL;
    if (s->v[i].answered)
      continue;
    control_send (s->v[i].d->control, command,
                  json_pack ("{s:I, s:i}", "cursor", (json_int_t)s->v[i].wish,
                             "max_bytes", 1),
                  NULL, 0, leased, &s->v[i]);
  }
  for (i = 0; i < s->n; ++i)
    while (!s->v[i].answered)
      drive (s->disks, 1000);
  for (i = 0; i < s->n; ++i)
    if (s->v[i].other != NULL)
      share (&s->v[i]);
  return s->disks->failure.stop == STOP_NO ? 0 : -1;
}

/* ---- reading ----------------------------------------------------------- */

bool
sample_is_over_relay (const struct sample *s, const struct disk *d)
{
  return s->over == SAMPLE_OVER_RELAY && !uri_is_local (d->pair->destination);
}

static const struct endpoint *
destination_of (const struct sample *s, const struct disk *d)
{
  return s->over == SAMPLE_OVER_ANY ? d->destination : disk_reader (d);
}

/* Both sides at the same time, the destination only where it is not read over
 * the relay.
 */
static int
read_all (struct sample *s)
{
  CLEANUP_LOOKS struct looks looks = LOOKS_EMPTY;
  size_t i, n;

  for (i = 0; i < s->n; ++i) {
    const struct spot *p = &s->v[i];

    if (p->chunk.length == 0)
      continue;
    looks_add (&looks, LOOK_READ, p->d->source, NULL, p->offset, p->bytes,
               NULL);
    if (!sample_is_over_relay (s, p->d))
      looks_add (&looks, LOOK_READ, destination_of (s, p->d), NULL, p->offset,
                 p->bytes, NULL);
  }
  looks.until_us = s->until_us;
  if (s->silent_us != 0 && s->n > 0) {
    looks.limited = destination_of (s, s->v[0].d);
    looks.limit_us = s->silent_us;
  }
  if (looks_run (s->disks, &looks) == -1)
    return -1;
  for (i = n = 0; i < s->n; ++i) {
    struct spot *p = &s->v[i];
    const struct look *source, *destination;

    if (p->chunk.length == 0)
      continue;
    source = destination = &looks.v[n++];
    if (!sample_is_over_relay (s, p->d))
      destination = &looks.v[n++];
    p->read = source->state == LOOK_ENDED && destination->state == LOOK_ENDED;
    memcpy (p->source, source->data, p->read ? p->bytes : 0);
    memcpy (p->destination, destination->data, p->read ? p->bytes : 0);
  }
  return 0;
}

/* ---- over the relay ---------------------------------------------------- */

/* What one connection of one disk's relay reads: those spots of the disk whose
 * numbers leave this remainder, a few in each question.
 */
struct round {
  struct sample *s;
  struct disk *d;
  unsigned connection, connections;
  size_t first, end; /* spots that this question may be about */
};

static bool
is_of_round (const struct round *r, size_t i)
{
  const struct spot *p = &r->s->v[i];

  return p->d == r->d && p->chunk.length > 0 &&
         i % r->connections == r->connection;
}

static json_t *
round_ranges (const struct round *r)
{
  json_t *ranges = need_memory (json_array ());
  size_t i;

  for (i = r->first; i < r->end; ++i)
    if (is_of_round (r, i) &&
        json_array_append_new (
          ranges, json_pack ("[I, I]", (json_int_t)r->s->v[i].offset,
                             (json_int_t)r->s->v[i].bytes)) == -1)
      no_memory (); /* the answers would be taken for those of others */
  return ranges;
}

/* -1 after failure_note. */
static int
ask_proxy (struct disk *d, const char *command, json_t *arguments)
{
  if (drive_ask (d, command, arguments) == 0)
    return 0;
  failure_note_for_good (&d->disks->failure,
                         "looking at the destination %s: %s: %s",
                         d->pair->destination, command, d->answer.desc);
  return -1;
}

/* What ends a connection of the proxy's may end ours a little later. */
#define NOTICE_US (INT64_C (3) * 1000000)

/* The proxy has found that the destination is lost, or one of its own
 * connections only.
 */
static bool
are_ours_lost (struct disk *d)
{
  const int64_t since_us = loop_now_us ();

  while (endpoint_broken (d->destination) == NULL &&
         !probe_answered (d->destination, since_us) &&
         d->disks->failure.stop == STOP_NO &&
         loop_now_us () - since_us < NOTICE_US) {
    probe_idle (d->destination, since_us);
    drive (d->disks, 100);
  }
  return endpoint_broken (d->destination) != NULL || reconnect_is_away (d);
}

/* -1 after failure_note. */
static int
ask_read_back (struct disk *d, json_t *arguments)
{
  CLEANUP_FREE char *text = NULL;

  if (drive_ask (d, "read-back", arguments) == 0)
    return 0;
  if (asprintf (&text, "looking at the destination %s: read-back: %s",
                d->pair->destination, d->answer.desc) == -1)
    text = NULL;
  if (drive_refused_with (d, "BadDestination") && are_ours_lost (d))
    reconnect_note_loss (d, text ? text : "no memory");
  else
    failure_note (&d->disks->failure, "%s", text ? text : "no memory");
  return -1;
}

/* The spots get digests in place of data. */
static int
read_round (const struct round *r)
{
  CLEANUP_JSON json_t *ranges = round_ranges (r);
  const json_t *digests;
  size_t i, k = 0;

  if (json_array_size (ranges) == 0)
    return 0;
  if (ask_read_back (r->d, json_pack ("{s:O, s:i}", "extents", ranges,
                                      "connection", (int)r->connection)) == -1)
    return -1;
  digests = json_object_get (r->d->answer.value, "sha256");
  for (i = r->first; i < r->end; ++i)
    if (is_of_round (r, i)) {
      const char *text = json_string_value (json_array_get (digests, k++));

      r->s->v[i].read = true;
      snprintf (r->s->v[i].destination, DIGEST_TEXT_BYTES, "%s",
                text ? text : "");
    }
  return 0;
}

/* How many connections there are is told with any answer. */
static int
count_connections (struct disk *d, const struct spot *p, unsigned *connections)
{
  uint64_t n = 0;

  if (ask_read_back (d, json_pack ("{s:[[I, I]]}", "extents",
                                   (json_int_t)p->offset,
                                   (json_int_t)p->bytes)) == -1)
    return -1;
  protocol_get_u64 (d->answer.value, "connections", &n);
  *connections = (unsigned)n;
  return 0;
}

/* What is not read in time was not read, but something of each disk is.  A
 * server may take a second for each read: it is asked for few at first.
 */
static int
read_over_relay (struct sample *s, struct disk *d)
{
  struct round r = { .s = s, .d = d, .connections = 1 };
  unsigned spots = 1;
  size_t i = 0;

  while (i < s->n && !is_of_round (&r, i))
    ++i;
  if (i == s->n)
    return 0;
  if (count_connections (d, &s->v[i], &r.connections) == -1)
    return -1;
  for (r.first = i;
       r.first < s->n && (r.first == i || loop_now_us () < s->until_us);
       r.first = r.end) {
    r.end = r.first + spots * r.connections;
    if (r.end > s->n)
      r.end = s->n;
    for (r.connection = 0; r.connection < r.connections; r.connection++)
      if (read_round (&r) == -1)
        return -1;
    if (spots < QUESTION_SPOTS)
      spots *= 2;
  }
  return 0;
}

/* ---- all of it --------------------------------------------------------- */

int
sample_read (struct sample *s)
{
  size_t i;

  if (lease_all (s) == -1)
    return -1;
  s->until_us = loop_now_us () + SAMPLE_US;
  if (read_all (s) == -1)
    return -1;
  for (i = 0; i < s->n; ++i)
    s->v[i].read &= !sample_is_over_relay (s, s->v[i].d); /* there not yet */
  for (i = 0; i < s->disks->n; ++i)
    if (sample_is_over_relay (s, &s->disks->v[i]) &&
        read_over_relay (s, &s->disks->v[i]) == -1)
      return -1;
  return s->disks->failure.stop == STOP_NO ? 0 : -1;
}

bool
sample_differs (const struct sample *s, const struct spot *p)
{
  char expected[DIGEST_TEXT_BYTES];

  if (!sample_is_over_relay (s, p->d))
    return memcmp (p->source, p->destination, p->bytes) != 0;
  return digest_data (p->source, p->bytes, expected) == -1 ||
         strcmp (p->destination, expected) != 0;
}

/* ---- the end of the leases --------------------------------------------- */

/* Chunks of one kind. */
typedef bool is_one (const struct spot *p);

static bool
is_equal (const struct spot *p)
{
  return !p->wrong;
}

static bool
is_touched (const struct spot *p)
{
  return p->chunk.touched;
}

static bool
is_untouched (const struct spot *p)
{
  return !p->chunk.touched;
}

/* Those leases of one disk. */
static int
report (const struct sample *s, struct disk *d, is_one *one,
        const char *command, const char *flag, bool value)
{
  CLEANUP_EXTENTS struct extents e = EXTENTS_EMPTY;
  size_t i;

  for (i = 0; i < s->n; ++i) {
    const struct spot *p = &s->v[i];

    if (p->d == d && p->chunk.length > 0 && p->other == NULL && one (p) &&
        extents_append (&e, p->chunk.offset, p->chunk.length, false) == -1)
      no_memory (); /* a lease must not be forgotten */
  }
  extents_normalise (&e);
  if (e.n == 0)
    return 0;
  return ask_proxy (d, command,
                    json_pack ("{s:o, s:b}", "extents",
                               protocol_extents (&e, false), flag, value));
}

/* Where the proxy says that nobody wrote meanwhile. */
static int
note_wrong (struct disk *d, struct disk **wrong_disk, struct extents *chunks)
{
  const json_t *wrong = json_object_get (d->answer.value, "wrong");
  const char *why;

  if (json_array_size (wrong) == 0 || *wrong_disk != NULL)
    return 0;
  *wrong_disk = d;
  if (protocol_parse_extents (wrong, chunks, &why) == 0)
    return 0;
  failure_note_for_good (&d->disks->failure, "looking at %s: %s",
                         d->pair->source, why);
  return -1;
}

/* One that differs becomes dirty, and is truly wrong if nobody wrote there. One
 * is enough: were all of them dirty from now on, the next run would find fewer
 * and fewer, and believe the rest.  So the others end as they were.
 */
static int
give_back_wrong (struct sample *s, struct disk *d, struct disk **wrong_disk,
                 struct extents *wrong_chunks)
{
  size_t i;

  for (i = 0; i < s->n; ++i) {
    struct spot *p = &s->v[i];
    const struct extents e = { .v = &p->chunk, .n = 1 };

    if (p->d != d || !p->wrong)
      continue;
    if (ask_proxy (d, "compared",
                   json_pack ("{s:o, s:b}", "extents",
                              protocol_extents (&e, false), "equal",
                              *wrong_disk != NULL)) == -1 ||
        note_wrong (d, wrong_disk, wrong_chunks) == -1)
      return -1;
  }
  return 0;
}

static int
give_back_disk (struct sample *s, struct disk *d, struct disk **wrong_disk,
                struct extents *wrong_chunks)
{
  int r;

  if (s->lease == SAMPLE_CLEAN) {
    r = report (s, d, is_equal, "compared", "equal", true);
    return give_back_wrong (s, d, wrong_disk, wrong_chunks) == -1 ? -1 : r;
  }
  r = report (s, d, is_untouched, "failed", "put_back", true);
  return report (s, d, is_touched, "failed", "put_back", false) == -1 ? -1 : r;
}

/* A chunk is wrong if one of its spots is. */
static void
judge_all (struct sample *s, sample_judge *wrong)
{
  size_t i;

  for (i = 0; wrong != NULL && i < s->n; ++i) {
    struct spot *p = &s->v[i];

    if (p->read && wrong (s, p))
      (p->other != NULL ? p->other : p)->wrong = true;
  }
}

int
sample_give_back (struct sample *s, sample_judge *wrong,
                  struct disk **wrong_disk, struct extents *wrong_chunks)
{
  int result = 0;
  size_t i;

  judge_all (s, wrong);
  for (i = 0; i < s->disks->n; ++i)
    if (give_back_disk (s, &s->disks->v[i], wrong_disk, wrong_chunks) == -1)
      result = -1;
  return result;
}
