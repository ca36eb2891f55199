/* SPDX-License-Identifier: BSD-3-Clause */
/* JSON events on stdout (--json), described in nbdmigrate(1). */

#ifndef NBDMIGRATE_EVENTS_H
#define NBDMIGRATE_EVENTS_H

#include <stdbool.h>

#include <jansson.h>

struct migration;

extern void events_enable (bool enable);

/* Seconds since the epoch. */
extern double event_now (void);

extern void event_started (const struct migration *m);
extern void event_phase (const struct migration *m);
extern void event_progress (const struct migration *m, json_t *progress);

/* A decision and the reason for it. */
extern void event_policy (const char *decision, const char *reason);
extern void event_pause (const struct migration *m, double begin_time,
                         bool committed);
extern void event_completed (const struct migration *m);
extern void event_failed (const struct migration *m, int status);

#endif /* NBDMIGRATE_EVENTS_H */
