/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON events on stdout (--json) and in a file (--events), described in
 * nbdmigrate(1).
 */

#ifndef NBDMIGRATE_EVENTS_H
#define NBDMIGRATE_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "show/snapshot.h"

/* From now on they are written there, too; once or twice.  The descriptor,
 * which is open for output (base/output.h), and the name are not owned.
 */
extern void events_to (int fd, const char *name);

/* Open a file for them; it is emptied, unless another nbdmigrate writes to it.
 * What else it may be, a FIFO or a terminal, must not make us wait.  The
 * descriptor; -1 with *why set, which is owned by the caller or NULL: there is
 * no memory.
 */
extern int events_open (const char *path, char **why);

/* Seconds since the epoch. */
extern double event_now (void);

extern void event_started (const struct account *a);
/* --check, instead of all others. */
extern void event_checked (const struct plan *p);

extern void event_phase (const char *phase, unsigned pass,
                         uint64_t remaining_bytes);
extern void event_progress (json_t *progress);

/* It was run "before" or "after" the pause, for so long. */
extern void event_hook (const char *step, double ms, bool succeeded);

/* The copying, by 'nbdmigrate pause'; or it goes on. */
extern void event_paused (bool paused);

/* A decision and the reason for it. */
extern void event_policy (const char *decision, const char *reason);

/* The same of what to do next, with what was measured (snapshot.h). */
/* A measure against guests that are too fast; or it would be taken. */
extern void event_measure (const char *what, const char *reason, bool would);

extern void event_decision (const char *decision, const char *reason,
                            uint64_t predicted_pause_ms, uint64_t max_pause_ms,
                            uint64_t remaining_bytes);

/* What the time of a pause goes into, in this order. */
enum pause_step {
  PAUSE_HOLD, /* shut the gates, until nothing is in flight behind them */
  PAUSE_COPY, /* what is dirty */
  PAUSE_FLUSH,
  PAUSE_CHECK, /* read back, and look at wishes */
  PAUSE_COMMIT,
  PAUSE_RELEASE,
};
#define PAUSE_STEPS (PAUSE_RELEASE + 1)

struct pause {
  double begin_time; /* event_now */
  double ms;
  double steps_ms[PAUSE_STEPS];
  uint64_t remaining_bytes; /* when the gates were shut */
  bool committed;
};

/* A destination was lost; or it is back, and counts again. */
extern void event_lost (const struct loss *l);
extern void event_reconnected (const struct loss *l);

extern void event_pause (const struct pause *p);
extern void event_completed (const struct account *a);
extern void event_failed (const struct account *a, int status, const char *why);

/* Wait for the readers to take them, within a limit. */
extern void events_end (void);

#endif /* NBDMIGRATE_EVENTS_H */
