/* SPDX-License-Identifier: BSD-3-Clause */
/* Exploring a world: every step that is possible in every state that can be
 * reached (explore.c).
 *
 * The world is one, and global; whoever has it says which steps are possible,
 * takes them, and can put it back to where it was.  What can happen must be
 * bounded, so that there are no endless schedules.
 */

#ifndef NBDMIGRATE_EXHAUSTIVE_EXPLORE_H
#define NBDMIGRATE_EXHAUSTIVE_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why this state must not be; NULL: it may. */
extern const char *violation;

struct step {
  uint8_t what, who;
};

#define STEPS_MAX 64

/* ---- What the world has to offer ---------------------------------------- */

/* All that are possible now. */
extern size_t steps_list (struct step steps[STEPS_MAX]);
extern void step_take (struct step step);
extern void step_print (struct step step);

/* Look for a violation. */
extern void world_check (void);

/* A number for all that has a bearing on what can follow. */
extern uint64_t world_key (void);

/* A copy, which is kept until it is dropped. */
extern void *world_keep (void);
extern void world_restore (const void *copy);
extern void world_drop (void *copy);

/* ---- Exploring ---------------------------------------------------------- */

struct found {
  uint64_t states, steps;
  double schedules; /* from the beginning to where nothing more can happen */
};

/* From the world as it is.  False: a violation; the schedule was printed. */
extern bool explore (struct found *found);

#endif /* NBDMIGRATE_EXHAUSTIVE_EXPLORE_H */
