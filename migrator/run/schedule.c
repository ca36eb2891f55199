/* SPDX-License-Identifier: BSD-3-Clause */

#include "base/say.h"
#include "policy/window.h"
#include "run/migration.h"
#include "run/schedule.h"
#include "show/events.h"

static bool
is_given (const struct migration *m)
{
  const struct options *o = m->disks.options;

  return (o->window || o->finish_at != 0) && !m->finish_wished &&
         !m->finish_by_hand;
}

static struct window
window_of (const struct options *o)
{
  return (struct window){
    .given = o->window,
    .from = o->window_from,
    .to = o->window_to,
    .at = o->finish_at,
  };
}

static void
shut (struct migration *m, const struct window *w)
{
  char text[64] = "a time that does not come soon";
  struct tm tm;

  m->wait = true;
  m->schedule_opens = window_opens (w, time (NULL));
  if (m->schedule_opens != 0 && localtime_r (&m->schedule_opens, &tm) != NULL)
    strftime (text, sizeof text, "%Y-%m-%d %H:%M %Z", &tm);
  event_policy ("schedule", "the time to cut over has not come, or is over");
  say_info ("it is kept in sync, and not cut over before %s", text);
}

static void
open_up (struct migration *m)
{
  m->wait = false;
  m->schedule_opens = 0;
  event_policy ("schedule", "the time to cut over has come");
  say_info ("the time to cut over has come");
}

/* A pause that has begun is not broken off. */
void
schedule_run (struct migration *m)
{
  const struct window w = window_of (m->disks.options);
  bool open;

  if (!is_given (m)) {
    m->schedule_opens = 0;
    return;
  }
  if (m->phase == PHASE_CONNECT || m->disks.in_pause || m->committing ||
      m->complete)
    return;
  open = window_is_open (&w, time (NULL));
  if (m->schedule_told && open == m->schedule_open)
    return;
  m->schedule_told = true;
  m->schedule_open = open;
  if (open)
    open_up (m);
  else
    shut (m, &w);
}

bool
schedule_is_shut (const struct migration *m)
{
  const struct window w = window_of (m->disks.options);

  return is_given (m) && !window_is_open (&w, time (NULL));
}
