/* SPDX-License-Identifier: BSD-3-Clause */
/* What the user sees of a running migration, here and from elsewhere. */

#ifndef NBDMIGRATE_PROGRESS_H
#define NBDMIGRATE_PROGRESS_H

#include <stdbool.h>

#include <jansson.h>

#include "show/snapshot.h"

/* A line on stderr, redrawn in place; N/100 lines on fd unless it is -1. */
extern void progress_init (bool bar, int fd);

/* Show the present state. */
extern void progress_show (const struct snapshot *s);

/* The end: a pass is complete only now, so only now it says 100 %. */
extern void progress_end (const struct snapshot *s, bool completed);

/* For --json and for 'nbdmigrate status' in another terminal. */
extern json_t *progress_json (const struct snapshot *s);
extern json_t *limits_json (const struct snapshot_limits *l);

#endif /* NBDMIGRATE_PROGRESS_H */
