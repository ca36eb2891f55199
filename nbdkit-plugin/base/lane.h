/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers that many threads count up are kept in lanes, one cache line each, so
 * that threads do not wait for each other's line.  A thread keeps its lane;
 * more threads than lanes share them, so the numbers are still atomic.  What is
 * counted is the sum.
 */

#ifndef NBDMIGRATE_LANE_H
#define NBDMIGRATE_LANE_H

#define LANES 16
#define LANE_BYTES 64 /* a cache line */

/* The calling thread's, from 0. */
extern unsigned lane_of_thread (void);

#endif /* NBDMIGRATE_LANE_H */
