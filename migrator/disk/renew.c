/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "disk/disk.h"
#include "disk/renew.h"
#include "disk/sockets.h"
#include "tls.h"

#define CONNECT_US (INT64_C (5) * 1000000)
#define RENEW_FIRST_US (INT64_C (100) * 1000)
#define RENEW_LAST_US (INT64_C (30) * 1000000)

/* Rounds are not further apart unless something stops us. */
#define STOPPED_US (INT64_C (1) * 1000000)

/* With no connection at all nothing goes on: a server that was started again is
 * there by then.
 */
#define WITHOUT_US (INT64_C (5) * 1000000)

void
renew_close (struct renewal *r)
{
  connection_close (r->coming);
  ledger_close (r->ledger);
  free (r->why);
}

void
renew_after_loss (struct renewal *r, unsigned missing)
{
  r->missing = missing;
  r->next_us = r->without_us = 0;
  r->backoff_us = RENEW_FIRST_US;
}

/* Steals 'why'. */
static void
note_why (struct renewal *r, char *why)
{
  free (r->why);
  r->why = why;
}

/* ---- one attempt ------------------------------------------------------- */

static void
give_up_attempt (struct renewal *r, int64_t now_us)
{
  connection_close (r->coming);
  r->coming = NULL;
  r->next_us = now_us + r->backoff_us;
  r->backoff_us *= 2;
  if (r->backoff_us > RENEW_LAST_US)
    r->backoff_us = RENEW_LAST_US;
}

/* It has come. */
static void
use (struct endpoint *e, struct renewal *r)
{
  endpoint_add (e, r->coming);
  r->coming = NULL;
  r->missing--;
  r->without_us = 0;
  r->backoff_us = RENEW_FIRST_US;
}

static void
told (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;
  struct renewal *r = &d->renewal;

  r->telling = false;
  if (!sockets_note_epoch (d, a, "connecting again to"))
    return;
  use (d->destination, r);
  copier_note_loss (d->copier);
  sockets_told (d, &r->ledger);
}

/* If one of those in use was closed meanwhile, not in this round. */
static void
tell (struct disk *d)
{
  struct renewal *r = &d->renewal;

  r->telling = sockets_tell (d, &r->coming, 1, &r->ledger, told);
}

/* What is only read over is of no concern to the filter. */
static void
watch_attempt (struct disk *d, struct endpoint *e, struct renewal *r,
               int64_t now_us)
{
  char *why;

  if (!connection_alive (r->coming)) {
    note_why (r, tls_explain (d->destination->uri, strdup (r->coming->why)));
    give_up_attempt (r, now_us);
  }
  else if (connection_has_come (r->coming)) {
    if (!endpoint_matches (d->destination, r->coming, &disk_more_options, &why))
      failure_note (d->settings->failure, "connecting to %s again: %s",
                    d->pair->destination, why ? why : "no memory");
    else if (e == d->destination)
      tell (d);
    else
      use (e, r);
  }
  else if (connection_is_resolving (r->coming))
    r->begun_us = now_us;
  else if (now_us - r->begun_us > CONNECT_US) {
    note_why (r, strdup ("no answer to the connection attempt"));
    give_up_attempt (r, now_us);
  }
}

static void
begin_attempt (struct disk *d, struct renewal *r, int64_t now_us)
{
  char *why;

  r->begun_us = now_us;
  r->coming = connection_begin (d->settings->loop, d->destination->uri,
                                &disk_more_options, &why);
  if (r->coming != NULL)
    return;
  note_why (r, why);
  give_up_attempt (r, now_us);
}

/* ---- each round -------------------------------------------------------- */

/* A reader that has had none since a loss keeps nobody waiting: disk_reader. */
static void
drop_broken (struct endpoint *e, struct renewal *r, int64_t now_us)
{
  char *why;

  while ((why = endpoint_drop_broken (e)) != NULL) {
    note_why (r, why);
    if (r->missing++ == 0)
      r->backoff_us = RENEW_FIRST_US;
    if (r->next_us < now_us)
      r->next_us = now_us;
    if (e->nr_connections == 0 && r->without_us == 0)
      r->without_us = now_us;
  }
}

/* R6a: with none left nothing tells that its server has lived, and it may come
 * back as anything (reconnect.h).
 */
static bool
is_lost (struct disk *d)
{
  CLEANUP_FREE char *what = NULL;

  if (d->renewal.without_us == 0 || !reconnect_is_allowed (d))
    return false;
  if (asprintf (&what,
                "keeping %s in sync: the last connection to %s broke: %s",
                d->pair->source, d->pair->destination,
                d->renewal.why ? d->renewal.why : "no memory") == -1)
    what = NULL;
  reconnect_note_loss (d, what ? what : "no memory");
  return true;
}

/* While we were stopped ourselves nothing can have come. */
static void
discount_stop (struct renewal *r, int64_t now_us)
{
  const int64_t stopped_us = now_us - r->run_us;

  if (r->run_us != 0 && stopped_us > STOPPED_US) {
    r->begun_us += stopped_us;
    if (r->without_us != 0)
      r->without_us += stopped_us;
  }
  r->run_us = now_us;
}

/* One that broke with something in flight or unflushed is a loss (reconnect.h),
 * as soon as that is noticed; it has no socket any more that the filter could
 * be told of.
 */
static void
run (struct disk *d, struct endpoint *e, struct renewal *r, int64_t now_us)
{
  discount_stop (r, now_us);
  drop_broken (e, r, now_us);
  if (r->missing == 0 || r->telling || endpoint_lost (e) != NULL)
    return;
  if (e == d->destination && is_lost (d))
    return;
  if (r->coming != NULL)
    watch_attempt (d, e, r, now_us);
  else if (now_us >= r->next_us)
    begin_attempt (d, r, now_us);
  if (r->without_us != 0 && now_us - r->without_us > WITHOUT_US)
    failure_note (
      d->settings->failure,
      "keeping %s in sync: a connection to %s broke, and there was no "
      "new one: %s",
      d->pair->source, d->pair->destination, r->why ? r->why : "no memory");
}

void
renew_run (struct disk *d, int64_t now_us)
{
  if (reconnect_is_away (d)) {
    reconnect_run (d, now_us);
    return;
  }
  run (d, d->destination, &d->renewal, now_us);
  if (d->reader != NULL)
    run (d, d->reader, &d->reader_renewal, now_us);
}
