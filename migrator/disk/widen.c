/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>

#include "disk/disk.h"
#include "disk/widen.h"

/* It waits beside the copying, and nobody for it. */
#define CONNECT_US (INT64_C (10) * 1000000)

void
widen_close (struct widening *w)
{
  connection_close (w->coming);
  connection_close (w->spare);
  connection_close (w->given);
  w->coming = w->spare = w->given = NULL;
}

/* Who asked for a number has had it from the beginning. */
static bool
is_needed (const struct disk *d)
{
  const char *why;

  return !d->widening.over && d->settings->options->connections == 0 &&
         d->source->multi_conn && !disk_is_shared (d, &why) &&
         endpoint_broken (d->source) == NULL;
}

static void
end (struct disk *d)
{
  d->widening.over = true;
  widen_close (&d->widening);
  copier_note_more_connections (d->copier);
}

static void
begin (struct disk *d, int64_t now_us)
{
  char *why = NULL;

  d->widening.begun_us = now_us;
  d->widening.coming = connection_begin (d->settings->loop, d->source->uri,
                                         &disk_source_options, &why);
  free (why);
  if (d->widening.coming == NULL)
    end (d);
}

static void
told (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->widening.answered = true;
  d->widening.refused = a->value == NULL;
}

/* Tell the filter of the spare one, which is to be used. */
static void
give (struct disk *d)
{
  struct widening *w = &d->widening;
  const int fd = w->spare != NULL ? connection_socket (w->spare) : -1;

  if (fd == -1) {
    connection_close (w->spare);
    w->spare = NULL;
    return;
  }
  w->given = w->spare;
  w->spare = NULL;
  w->answered = false;
  control_send (d->control, "source-sockets", CONTROL_NO_ARGUMENTS, &fd, 1,
                told, d);
}

static void
use (struct disk *d)
{
  struct widening *w = &d->widening;

  if (w->refused) {
    end (d);
    return;
  }
  if (connection_alive (w->given))
    endpoint_add (d->source, w->given);
  else
    connection_close (w->given);
  w->given = NULL;
}

/* One that reaches another disk (the export may have been replaced) is not
 * used, and says nothing of those that there are.
 */
static void
take (struct disk *d)
{
  struct widening *w = &d->widening;
  char *why = NULL;

  if (!endpoint_matches (d->source, w->coming, &disk_source_options, &why)) {
    free (why);
    end (d);
    return;
  }
  give (d);
  w->spare = w->coming;
  w->coming = NULL;
}

void
widen_run (struct disk *d, int64_t now_us)
{
  struct widening *w = &d->widening;

  if (!is_needed (d))
    return;
  if (w->given != NULL && !w->answered)
    return;
  if (w->given != NULL)
    use (d);
  if (w->coming != NULL && connection_alive (w->coming) &&
      connection_has_come (w->coming))
    take (d);
  else if (w->coming != NULL &&
           (!connection_alive (w->coming) || now_us - w->begun_us > CONNECT_US))
    end (d);
  if (w->over || w->coming != NULL || w->given != NULL)
    return;
  if (d->source->nr_connections < disk_connections (d))
    begin (d, now_us);
  else
    end (d);
}
