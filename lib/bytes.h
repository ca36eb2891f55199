/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers in the files in migrate-dir: little endian, at any address. */

#ifndef NBDMIGRATE_BYTES_H
#define NBDMIGRATE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline void
put32 (uint8_t *at, uint32_t value)
{
  value = htole32 (value);
  memcpy (at, &value, sizeof value);
}

static inline void
put64 (uint8_t *at, uint64_t value)
{
  value = htole64 (value);
  memcpy (at, &value, sizeof value);
}

static inline uint32_t
get32 (const uint8_t *at)
{
  uint32_t value;

  memcpy (&value, at, sizeof value);
  return le32toh (value);
}

static inline uint64_t
get64 (const uint8_t *at)
{
  uint64_t value;

  memcpy (&value, at, sizeof value);
  return le64toh (value);
}

#endif /* NBDMIGRATE_BYTES_H */
