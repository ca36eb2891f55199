/* SPDX-License-Identifier: BSD-3-Clause */
/* Output that never blocks whoever writes it.
 *
 * What is written waits in memory, within a limit, and a thread hands it to the
 * reader.  A reader that has stopped reading so stops nothing else.  When there
 * is no room any more what matters least goes first, and of that the oldest.
 *
 * For the main thread only.  Descriptors are not owned.
 */

#ifndef NBDMIGRATE_OUTPUT_H
#define NBDMIGRATE_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

/* What waits for one reader: about a quarter of an hour of progress events. */
#define OUTPUT_LIMIT_BYTES ((size_t)1024 * 1024)

/* How the end waits for readers: see output_wait. */
#define OUTPUT_STILL_MS 2000
#define OUTPUT_END_MS 30000

/* In the order in which they go when there is no room. */
enum output_kind {
  OUTPUT_FRAME,    /* takes the place of one that waits: one is enough */
  OUTPUT_PROGRESS, /* what the next one of its kind makes old */
  OUTPUT_LINE,     /* goes only when nothing else is left to go */
  OUTPUT_KINDS
};

/* From now on what is written there waits.  Descriptors of one file (the two of
 * a terminal) share their queue, so that the order stays.  0, or -1 with errno
 * set.
 */
extern int output_open (int fd);

/* Write the text (owned from now on; NULL: no memory, nothing is written), at
 * once and waiting for the reader if fd is not open.  0, or -1 with errno set:
 * an earlier one could not be written, nor will any later one be.
 */
extern int output_put (int fd, enum output_kind kind, char *text);

/* The same, of a line, without memory: when the reader has all that came
 * before, for which it is waited as at the end.  -1 with errno ETIMEDOUT: it
 * takes nothing, and the text is dropped.
 */
extern int output_put_now (int fd, const char *text);

/* Wait until the reader has everything: for as long as it takes something at
 * least every still_ms, and end_ms at most.  0; -1 with errno set: something
 * could not be written, or was not taken in time (ETIMEDOUT).
 */
extern int output_wait (int fd, int still_ms, int end_ms);

/* How many there was no room for, frames apart. */
extern uint64_t output_dropped (int fd);

#endif /* NBDMIGRATE_OUTPUT_H */
