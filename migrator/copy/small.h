/* SPDX-License-Identifier: BSD-3-Clause */
/* Small things that are in flight: each lives until it has ended, or until all
 * are freed.  What is in flight when a connection is closed does not end:
 * libnbd before 1.18 calls no callback then.
 */

#ifndef NBDMIGRATE_SMALL_H
#define NBDMIGRATE_SMALL_H

#include <stddef.h>

struct small;

struct smalls {
  struct small *first;
};

/* Filled with zeroes; NULL: no memory. */
extern void *small_new (struct smalls *s, size_t bytes);

/* NULL is allowed. */
extern void small_free (struct smalls *s, void *p);

extern void small_free_all (struct smalls *s);

#endif /* NBDMIGRATE_SMALL_H */
