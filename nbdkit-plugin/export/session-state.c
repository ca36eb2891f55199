/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "session-state.h"

void
session_state_init (struct session *s)
{
  memset (s, 0, sizeof *s);
  s->process = -1;
  pthread_mutex_init (&s->lock, NULL);
  history_init (&s->history);
}

void
session_state_close_fds (struct session *s)
{
  for (size_t i = 0; i < s->nr_fds; i++)
    close (s->fds[i]);
  s->nr_fds = 0;
  for (size_t i = 0; i < s->nr_source_fds; i++)
    close (s->source_fds[i]);
  s->nr_source_fds = 0;
  ledger_close (s->ledger);
  s->ledger = NULL;
  if (s->process != -1)
    close (s->process);
  s->process = -1;
}

void
session_state_forget_before (struct session *s)
{
  free (s->before.source);
  free (s->before.destination);
  s->before = (struct session_before){ .kept = false };
}

void
session_state_destroy (struct session *s)
{
  session_state_close_fds (s);
  session_state_forget_before (s);
  free (s->source);
  old_connections_close (&s->old);
  free (s->destination);
  free (s->promise);
  history_destroy (&s->history);
  json_decref (s->progress);
  json_decref (s->wishes);
  pthread_mutex_destroy (&s->lock);
}
