/* SPDX-License-Identifier: BSD-3-Clause */
/* What a cell may hold.
 *
 * A cell passes through states 0 (as it was initially), 1, 2, ... n: state k
 * is entered when the k-th operation on it is sent, and is complete when that
 * is acknowledged.
 */

#ifndef REFEREE_JUDGE_H
#define REFEREE_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record.h"

/* Whether these are bytes that the cell may hold in state k:
 *
 *  - after an acknowledged write or zero: exactly its content;
 *  - after a trim: each byte zero or as in the state before;
 *  - after an operation that failed, or that nobody knows the end of: each
 *    byte as in the state before or as the operation leaves it.
 */
extern bool judge_state (const struct record *r, size_t cell, uint32_t k,
                         const uint8_t *buf);

/* As judge_state, for the last state. */
extern bool judge_latest (const struct record *r, size_t cell,
                          const uint8_t *buf);

/* A read has returned this, and judge_latest was true: reads never go back in
 * time, also where an operation failed and its outcome is unknown.
 */
extern void judge_seen (struct record *r, size_t cell, const uint8_t *buf);

/* Print on stderr what is wrong with a cell, and what it seems to hold. */
extern void judge_explain (const struct record *r, size_t cell,
                           const uint8_t *buf);

#endif /* REFEREE_JUDGE_H */
