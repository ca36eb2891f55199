/* SPDX-License-Identifier: BSD-3-Clause */
/* One slot of the owner record, as bytes.  Pure functions. */

#ifndef NBDMIGRATE_RECORD_SLOT_H
#define NBDMIGRATE_RECORD_SLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "record.h"

#define RECORD_DIGEST_BYTES 32 /* SHA-256 */

struct slot {
  uint64_t generation;
  struct record record;
};

enum slot_state {
  SLOT_VALID,
  SLOT_INVALID, /* torn or rotten: no statement at all */
  SLOT_FOREIGN, /* whole, but of another format version or another export */
};

/* The digest of the export's name, by which a file of another export is
 * recognised.  -1: GnuTLS failed.
 */
extern int slot_name_digest (const char *export_name,
                             uint8_t digest[RECORD_DIGEST_BYTES]);

/* 'number' (0 or 1) is the slot's place.  -1: GnuTLS failed. */
extern int slot_encode (const struct slot *slot, unsigned number,
                        const uint8_t name_digest[RECORD_DIGEST_BYTES],
                        uint8_t bytes[RECORD_SLOT_BYTES]);

extern enum slot_state
slot_decode (const uint8_t bytes[RECORD_SLOT_BYTES], unsigned number,
             const uint8_t name_digest[RECORD_DIGEST_BYTES], struct slot *slot);

/* Whether two records say the same. */
extern bool slot_same_record (const struct record *a, const struct record *b);

#endif /* NBDMIGRATE_RECORD_SLOT_H */
