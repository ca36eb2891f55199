/* SPDX-License-Identifier: BSD-3-Clause */
/* Many threads wait, each for something of its own, and several are woken with
 * one system call: one for each would let the first of them run before the
 * others are awake, and each costs about as much as sending an answer.
 *
 * A thread waits with one bit of 32.  Several may have the same one, so a
 * thread that is woken looks whether it was meant, and waits again if not.
 */

#ifndef NBDMIGRATE_REMOTE_BELL_H
#define NBDMIGRATE_REMOTE_BELL_H

#include <stdbool.h>
#include <stdint.h>

struct bell {
  uint32_t rung; /* atomic; a count */
};

/* Before looking whether there is something to wait for. */
extern uint32_t bell_look (const struct bell *bell);

/* Until it is rung for one of these bits, if it was not rung since 'look'; also
 * for no reason.  Below 0: for any time; otherwise false after so long.
 */
extern bool bell_wait (struct bell *bell, uint32_t look, uint32_t bits,
                       int timeout_ms);

/* After what they wait for has been stored. */
extern void bell_ring (struct bell *bell, uint32_t bits);

#endif /* NBDMIGRATE_REMOTE_BELL_H */
