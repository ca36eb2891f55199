/* SPDX-License-Identifier: BSD-3-Clause */
/* What a server takes of requests to write zeroes or to trim, learned from its
 * refusals.
 *
 * A server may take writes of any length, and answer EINVAL when it is asked to
 * zero or to trim a part of a sector of the device behind it, without stating
 * that anywhere (nbdkit's file plugin).  What it takes is tried from the
 * smallest unit up: both ends of a request are to be multiples of it.
 */

#ifndef NBDMIGRATE_ZERO_ALIGN_H
#define NBDMIGRATE_ZERO_ALIGN_H

#include <stddef.h>
#include <stdint.h>

#define ZERO_ALIGN_ANY 1 /* nothing was refused yet */
#define ZERO_ALIGN_MAX 65536
#define ZERO_ALIGN_NEVER 0 /* not even multiples of that were taken */

/* The unit to go on with after EINVAL to a request whose ends were multiples of
 * 'align': the next one that it was not a multiple of.
 */
static inline uint32_t
zero_align_next (uint32_t align, uint64_t offset, uint64_t length)
{
  static const uint32_t units[] = { 512, 4096, ZERO_ALIGN_MAX };

  if (align == ZERO_ALIGN_NEVER)
    return align;
  for (size_t i = 0; i < sizeof units / sizeof units[0]; ++i)
    if (units[i] > align && (offset | length) % units[i] != 0)
      return units[i];
  return ZERO_ALIGN_NEVER;
}

/* The part [*from, *to) of a range that is made of whole units; *from == *to:
 * it has none, and both lie inside the range.
 */
static inline void
zero_align_middle (uint32_t align, uint64_t offset, uint64_t length,
                   uint64_t *from, uint64_t *to)
{
  const uint64_t end = offset + length;

  *from = *to = end;
  if (align == ZERO_ALIGN_NEVER)
    return;
  *from = (offset + align - 1) / align * align;
  *to = end / align * align;
  if (*from >= *to)
    *from = *to = end;
}

#endif /* NBDMIGRATE_ZERO_ALIGN_H */
