/* SPDX-License-Identifier: BSD-3-Clause */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "disk/disk.h"
#include "disk/reconnect.h"
#include "disk/sockets.h"
#include "protocol.h"
#include "tls.h"
#include "units.h"

#define CONNECT_US (INT64_C (5) * 1000000)

/* Rounds are not further apart unless something stops us. */
#define STOPPED_US (INT64_C (1) * 1000000)

/* One that is there for so long is back also if nothing was written to it. */
#define BACK_US (INT64_C (5) * 1000000)

bool
reconnect_is_allowed (const struct disk *d)
{
  return d->settings->options != NULL && d->settings->options->reconnect_ms > 0;
}

bool
reconnect_is_away (const struct disk *d)
{
  return d->reconnect.state != RECONNECT_THERE;
}

int64_t
reconnect_away_us (const struct disk *d, int64_t now_us)
{
  return now_us - d->reconnect.backoff.since_us;
}

/* Steals 'why'. */
static void
note_attempt (struct reconnect *r, char *why)
{
  free (r->attempt_why);
  r->attempt_why = why;
}

static void
close_coming (struct reconnect *r)
{
  while (r->nr_coming > 0)
    connection_close (r->coming[--r->nr_coming]);
}

void
reconnect_close (struct reconnect *r)
{
  close_coming (r);
  ledger_close (r->ledger);
  free (r->why);
  free (r->attempt_why);
}

/* ---- the loss ---------------------------------------------------------- */

/* While we were stopped ourselves nothing can have come. */
static void
discount_stop (struct reconnect *r, int64_t now_us)
{
  const int64_t stopped_us = now_us - r->run_us;

  if (r->run_us != 0 && stopped_us > STOPPED_US) {
    backoff_discount (&r->backoff, stopped_us);
    r->begun_us += stopped_us;
  }
  r->run_us = now_us;
}

/* One that is lost again before anything was flushed there has not been back
 * for more than a moment: that moment does not count, nor does the next attempt
 * wait for as long as it was.
 */
static void
begin_waiting (struct reconnect *r)
{
  if (r->backoff.since_us != 0 && !r->flushed) {
    discount_stop (r, loop_now_us ());
    backoff_failed (&r->backoff, loop_now_us ());
    return;
  }
  backoff_begin (&r->backoff, loop_now_us ());
  r->again_bytes = 0;
  r->flushed = false;
  r->run_us = 0;
}

void
reconnect_note_loss (struct disk *d, const char *what)
{
  struct reconnect *r = &d->reconnect;

  if (r->state == RECONNECT_THERE || r->state == RECONNECT_BACK) {
    begin_waiting (r);
    r->state = RECONNECT_LOST;
    free (r->why);
    r->why = strdup (what);
    note_attempt (r, NULL);
  }
  failure_note_loss (d->settings->failure, what);
}

static uint64_t
written_bytes (const struct disk *d)
{
  struct copier_stats s;

  copier_get_stats (d->copier, &s);
  return s.copied_bytes + s.zeroed_bytes;
}

void
reconnect_note_flush (struct disk *d)
{
  struct reconnect *r = &d->reconnect;

  r->flushed |=
    r->state == RECONNECT_THERE && (written_bytes (d) != r->back_bytes ||
                                    loop_now_us () - r->back_us >= BACK_US);
}

/* ---- giving up --------------------------------------------------------- */

static void
break_all (struct endpoint *e)
{
  unsigned i;

  for (i = 0; e != NULL && i < e->nr_connections; ++i)
    if (connection_alive (e->connections[i]))
      connection_break (e->connections[i],
                        "given up, since another one was lost");
}

/* What is made anew one by one is given up with the others. */
static void
stop_renewal (struct renewal *r)
{
  if (r->telling)
    return;
  connection_close (r->coming);
  r->coming = NULL;
}

void
reconnect_give_up (struct disk *d)
{
  struct reconnect *r = &d->reconnect;

  if (r->state != RECONNECT_LOST)
    return;
  r->state = RECONNECT_ENDING;
  copier_interrupt (d->copier, r->why ? r->why : "no memory");
}

/* Whether nothing of the old connections is in flight any more. */
static bool
have_all_ended (struct disk *d)
{
  stop_renewal (&d->renewal);
  stop_renewal (&d->reader_renewal);
  break_all (d->destination);
  break_all (d->reader);
  return !d->renewal.telling && endpoint_in_flight (d->destination) == 0 &&
         (d->reader == NULL || endpoint_in_flight (d->reader) == 0) &&
         !disk_pass_running (d);
}

/* How many connections it had. */
static unsigned
close_all (struct endpoint *e, struct renewal *r)
{
  const unsigned n = e->nr_connections + r->missing;

  while (e->nr_connections > 0)
    connection_close (e->connections[--e->nr_connections]);
  renew_after_loss (r, 0);
  return n;
}

static void
given_up (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  struct reconnect *r = &d->reconnect;
  uint64_t again_bytes = 0;

  if (!sockets_note_epoch (d, a, "giving up the connections to"))
    return;
  protocol_get_u64 (a->value, "dirty_again_bytes", &again_bytes);
  r->again_bytes += again_bytes;
  r->state = RECONNECT_AWAY;
  d->settings->observe->lost (d);
}

/* R6a: at once, so that nothing that was not flushed counts meanwhile, nor
 * should we end.
 */
static void
tell_lost (struct disk *d)
{
  struct reconnect *r = &d->reconnect;
  const unsigned n = close_all (d->destination, &d->renewal);

  if (n > 0)
    r->wanted = n;
  if (d->reader != NULL)
    renew_after_loss (&d->reader_renewal,
                      close_all (d->reader, &d->reader_renewal));
  r->state = RECONNECT_GIVEN_UP;
  control_send (d->control, "lost", json_pack ("{s:b}", "away", 1), NULL, 0,
                given_up, d);
}

bool
reconnect_has_ended (const struct disk *d)
{
  return d->reconnect.state != RECONNECT_LOST &&
         d->reconnect.state != RECONNECT_ENDING;
}

/* ---- dialling ---------------------------------------------------------- */

static void
give_up_attempt (struct reconnect *r, int64_t now_us)
{
  close_coming (r);
  backoff_failed (&r->backoff, now_us);
}

static void
dial (struct disk *d, int64_t now_us)
{
  struct reconnect *r = &d->reconnect;
  char *why = NULL;
  struct connection *c = connection_begin (
    d->settings->loop, d->destination->uri, &disk_more_options, &why);

  r->begun_us = now_us;
  if (c != NULL)
    r->coming[r->nr_coming++] = c;
  else
    note_attempt (r, why);
}

/* One that has not come by now will not, or will be made anew later. */
static void
drop_coming (struct reconnect *r, unsigned i)
{
  connection_close (r->coming[i]);
  r->coming[i] = r->coming[--r->nr_coming];
}

/* Whether this one has come and is right; *pending: it may yet. */
static bool
has_come (struct disk *d, struct connection *c, bool *pending)
{
  char *why;

  if (!connection_has_come (c)) {
    *pending = true;
    return false;
  }
  if (endpoint_is_same (d->destination, c, &disk_more_options, &why))
    return true;
  failure_note_for_good (
    d->settings->failure,
    "the destination %s of %s has come back, and is not what it "
    "was: %s; nothing was written there since.  If it is another "
    "disk, or not all of it, bring the right one back",
    d->pair->destination, d->pair->source, why ? why : "no memory");
  free (why);
  return false;
}

/* Those that are dead go.  How many have come. */
static unsigned
count_come (struct disk *d, bool *pending)
{
  struct reconnect *r = &d->reconnect;
  unsigned i = 0, come = 0;

  *pending = false;
  while (i < r->nr_coming)
    if (!connection_alive (r->coming[i])) {
      note_attempt (
        r, tls_explain (d->destination->uri, strdup (r->coming[i]->why)));
      drop_coming (r, i);
    }
    else
      come += has_come (d, r->coming[i++], pending);
  return come;
}

static void
told (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  struct reconnect *r = &d->reconnect;
  unsigned i;

  if (!sockets_note_epoch (d, a, "connecting again to"))
    return;
  for (i = 0; i < r->nr_coming; ++i)
    endpoint_add (d->destination, r->coming[i]);
  renew_after_loss (&d->renewal, r->wanted - r->nr_coming);
  r->nr_coming = 0;
  sockets_told (d, &r->ledger);
  r->state = RECONNECT_BACK;
}

/* As many as came soon enough; one of them at least. */
static void
tell_come (struct disk *d)
{
  struct reconnect *r = &d->reconnect;
  unsigned i = 0;

  while (i < r->nr_coming)
    if (connection_has_come (r->coming[i]))
      i++;
    else
      drop_coming (r, i);
  if (sockets_tell (d, r->coming, r->nr_coming, &r->ledger, told))
    r->state = RECONNECT_TOLD;
}

/* The others are dialled once one has come, and only once: of those that cannot
 * be, as where we have no descriptor left, nothing is to come.
 */
static void
dial_others (struct disk *d, int64_t now_us)
{
  struct reconnect *r = &d->reconnect;
  unsigned n;

  r->others_dialled = true;
  for (n = r->wanted - r->nr_coming; n > 0 && d->destination->multi_conn; --n)
    dial (d, now_us);
}

static bool
is_resolving (const struct reconnect *r)
{
  unsigned i;

  for (i = 0; i < r->nr_coming; ++i)
    if (connection_is_resolving (r->coming[i]))
      return true;
  return false;
}

static void
watch_attempt (struct disk *d, int64_t now_us)
{
  struct reconnect *r = &d->reconnect;
  bool pending;
  const unsigned come = count_come (d, &pending);

  if (is_resolving (r))
    r->begun_us = now_us;
  if (r->nr_coming == 0)
    give_up_attempt (r, now_us);
  else if (come == 1 && !r->others_dialled)
    dial_others (d, now_us);
  else if (come > 0 &&
           (!pending || now_us - r->begun_us > ENDPOINT_WIDEN_MS * 1000))
    tell_come (d);
  else if (come == 0 && now_us - r->begun_us > CONNECT_US) {
    note_attempt (r, strdup ("no answer to the connection attempt"));
    give_up_attempt (r, now_us);
  }
}

static void
fail (struct disk *d, int64_t now_us)
{
  const struct reconnect *r = &d->reconnect;
  char text[UNITS_TEXT_MAX];

  failure_note_for_good (
    d->settings->failure,
    "%s; connecting again was tried for %s (--reconnect), %u times, in vain: "
    "%s",
    r->why ? r->why : d->pair->destination,
    units_format_ms (text, (uint64_t)reconnect_away_us (d, now_us) / 1000),
    r->backoff.attempts, r->attempt_why ? r->attempt_why : "no answer");
}

static void
look_for_it (struct disk *d, int64_t now_us)
{
  struct reconnect *r = &d->reconnect;

  if (backoff_is_over (&r->backoff, d->settings->options->reconnect_ms, now_us))
    fail (d, now_us);
  else if (r->nr_coming > 0)
    watch_attempt (d, now_us);
  else if (backoff_is_due (&r->backoff, now_us)) {
    backoff_attempt (&r->backoff);
    r->others_dialled = false;
    dial (d, now_us);
    if (r->nr_coming == 0)
      backoff_failed (&r->backoff, now_us);
  }
  else
    loop_wake_at (d->settings->loop, r->backoff.next_us);
}

/* ---- each round -------------------------------------------------------- */

void
reconnect_run (struct disk *d, int64_t now_us)
{
  discount_stop (&d->reconnect, now_us);
  if (d->reconnect.state == RECONNECT_ENDING && have_all_ended (d))
    tell_lost (d);
  else if (d->reconnect.state == RECONNECT_AWAY)
    look_for_it (d, now_us);
}

void
reconnect_go_on (struct disk *d)
{
  struct reconnect *r = &d->reconnect;

  assert (r->state == RECONNECT_BACK);
  copier_go_on (d->copier);
  d->load.mirror_asked_ms = 0; /* the loss has ended it */
  r->state = RECONNECT_THERE;
  r->back_us = loop_now_us ();
  r->back_bytes = written_bytes (d);
  r->times++;
  d->settings->observe->back (d);
}
