/* SPDX-License-Identifier: BSD-3-Clause */
/* One slot of the owner record, as bytes.
 *
 *   offset  bytes
 *        0     16  magic, "nbdmigrate state"
 *       16      4  format version
 *       20      4  slot number, 0 or 1
 *       24      8  generation
 *       32      4  owner
 *       36      4  how the last session ended
 *       40      8  disk size
 *       48      8  chunk size
 *       56      8  export id
 *       64     32  SHA-256 of the export's name
 *       96      4  length of the destination's URI
 *      100      4  longest delay at the destination, milliseconds
 *      104      4  the same at a remote source
 *      108      4  reserved, 0
 *      112      8  origin: the id of the first record
 *      120    124  reserved, 0
 *      244      8  id of the dirty map that holds, 0: none
 *      252      4  length of the source's URI, 0: it is the local one
 *      256   2048  destination's URI
 *     2304   1760  source's URI
 *     4064     32  SHA-256 of all the bytes before
 *
 * Numbers are little endian.  The digest is against torn writes and rot, not
 * against an attacker: who can write the file owns the disk anyway.
 */

#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "bytes.h"
#include "record-slot.h"

#define FORMAT_VERSION 1

static const char magic[] = "nbdmigrate state"; /* without the final 0 */

enum {
  AT_MAGIC = 0,
  AT_VERSION = 16,
  AT_NUMBER = 20,
  AT_GENERATION = 24,
  AT_OWNER = 32,
  AT_LAST_END = 36,
  AT_DISK_BYTES = 40,
  AT_CHUNK_BYTES = 48,
  AT_EXPORT_ID = 56,
  AT_NAME_DIGEST = 64,
  AT_URI_LENGTH = 96,
  AT_DELAY = 100,
  AT_SOURCE_DELAY = 104,
  AT_ORIGIN = 112,
  AT_MAP_ID = 244,
  AT_SOURCE_LENGTH = 252,
  AT_URI = 256,
  AT_SOURCE = AT_URI + RECORD_URI_MAX,
  AT_DIGEST = RECORD_SLOT_BYTES - RECORD_DIGEST_BYTES,
};

_Static_assert(AT_SOURCE + RECORD_SOURCE_MAX == AT_DIGEST, "the slot is full");

/* The numbers in the file; enum owner belongs to the tracker.  The last two are
 * for a remote source: a version that does not know of any must not take the
 * local image for it.
 */
enum {
  FILE_SOURCE = 1,
  FILE_DESTINATION = 2,
  FILE_FENCED = 3,
  FILE_REMOTE_SOURCE = 4,
  FILE_FENCED_FROM_REMOTE = 5,
};

static int
sha256 (const void *data, size_t bytes, uint8_t digest[RECORD_DIGEST_BYTES])
{
  return gnutls_hash_fast (GNUTLS_DIG_SHA256, data, bytes, digest) < 0 ? -1 : 0;
}

int
slot_name_digest (const char *export_name, uint8_t digest[RECORD_DIGEST_BYTES])
{
  return sha256 (export_name, strlen (export_name), digest);
}

static uint32_t
owner_to_file (const struct record *rec)
{
  const bool remote = rec->source[0] != '\0';

  switch (rec->owner) {
  case OWNER_SOURCE:
    return remote ? FILE_REMOTE_SOURCE : FILE_SOURCE;
  case OWNER_DESTINATION:
    return FILE_DESTINATION;
  case OWNER_FENCED:
    return remote ? FILE_FENCED_FROM_REMOTE : FILE_FENCED;
  case OWNER_UNKNOWN:
    break;
  }
  return 0; /* the caller has refused it */
}

static bool
owner_from_file (uint32_t number, enum owner *owner)
{
  switch (number) {
  case FILE_SOURCE:
  case FILE_REMOTE_SOURCE:
    *owner = OWNER_SOURCE;
    return true;
  case FILE_DESTINATION:
    *owner = OWNER_DESTINATION;
    return true;
  case FILE_FENCED:
  case FILE_FENCED_FROM_REMOTE:
    *owner = OWNER_FENCED;
    return true;
  default:
    return false;
  }
}

int
slot_encode (const struct slot *slot, unsigned number,
             const uint8_t name_digest[RECORD_DIGEST_BYTES],
             uint8_t bytes[RECORD_SLOT_BYTES])
{
  const struct record *rec = &slot->record;
  size_t uri_length = strnlen (rec->destination, RECORD_URI_MAX);
  size_t source_length = strnlen (rec->source, RECORD_SOURCE_MAX);

  memset (bytes, 0, RECORD_SLOT_BYTES);
  memcpy (bytes + AT_MAGIC, magic, sizeof magic - 1);
  put32 (bytes + AT_VERSION, FORMAT_VERSION);
  put32 (bytes + AT_NUMBER, number);
  put64 (bytes + AT_GENERATION, slot->generation);
  put32 (bytes + AT_OWNER, owner_to_file (rec));
  put32 (bytes + AT_LAST_END, rec->last_end);
  put64 (bytes + AT_DISK_BYTES, rec->disk_bytes);
  put64 (bytes + AT_CHUNK_BYTES, rec->chunk_bytes);
  put64 (bytes + AT_EXPORT_ID, rec->export_id);
  memcpy (bytes + AT_NAME_DIGEST, name_digest, RECORD_DIGEST_BYTES);
  put32 (bytes + AT_URI_LENGTH, uri_length);
  put32 (bytes + AT_DELAY, rec->delay_ms);
  put32 (bytes + AT_SOURCE_DELAY, rec->source_delay_ms);
  put64 (bytes + AT_MAP_ID, rec->map_id);
  put64 (bytes + AT_ORIGIN, rec->origin);
  memcpy (bytes + AT_URI, rec->destination, uri_length);
  put32 (bytes + AT_SOURCE_LENGTH, source_length);
  memcpy (bytes + AT_SOURCE, rec->source, source_length);
  return sha256 (bytes, AT_DIGEST, bytes + AT_DIGEST);
}

/* Everything behind a digest that is right; false: it makes no sense, so it
 * was written by something else.
 */
static bool
decode_record (const uint8_t *bytes, struct slot *slot)
{
  struct record *rec = &slot->record;
  const uint32_t last_end = get32 (bytes + AT_LAST_END);
  const uint32_t uri_length = get32 (bytes + AT_URI_LENGTH);
  const uint32_t source_length = get32 (bytes + AT_SOURCE_LENGTH);

  memset (slot, 0, sizeof *slot);
  slot->generation = get64 (bytes + AT_GENERATION);
  if (!owner_from_file (get32 (bytes + AT_OWNER), &rec->owner) ||
      last_end > RECORD_END_ABORTED || uri_length > RECORD_URI_MAX ||
      source_length > RECORD_SOURCE_MAX)
    return false;
  rec->last_end = last_end;
  rec->disk_bytes = get64 (bytes + AT_DISK_BYTES);
  rec->chunk_bytes = get64 (bytes + AT_CHUNK_BYTES);
  rec->export_id = get64 (bytes + AT_EXPORT_ID);
  rec->delay_ms = get32 (bytes + AT_DELAY);
  rec->source_delay_ms = get32 (bytes + AT_SOURCE_DELAY);
  rec->map_id = get64 (bytes + AT_MAP_ID);
  rec->origin = get64 (bytes + AT_ORIGIN);
  memcpy (rec->destination, bytes + AT_URI, uri_length);
  memcpy (rec->source, bytes + AT_SOURCE, source_length);
  if (strlen (rec->destination) != uri_length ||
      strlen (rec->source) != source_length ||
      get32 (bytes + AT_OWNER) != owner_to_file (rec))
    return false;
  /* A destination that owns the disk has a name. */
  return rec->owner != OWNER_DESTINATION || uri_length > 0;
}

enum slot_state
slot_decode (const uint8_t bytes[RECORD_SLOT_BYTES], unsigned number,
             const uint8_t name_digest[RECORD_DIGEST_BYTES], struct slot *slot)
{
  uint8_t digest[RECORD_DIGEST_BYTES];

  if (memcmp (bytes + AT_MAGIC, magic, sizeof magic - 1) != 0 ||
      sha256 (bytes, AT_DIGEST, digest) == -1 ||
      memcmp (bytes + AT_DIGEST, digest, sizeof digest) != 0)
    return SLOT_INVALID;
  if (get32 (bytes + AT_VERSION) != FORMAT_VERSION ||
      memcmp (bytes + AT_NAME_DIGEST, name_digest, RECORD_DIGEST_BYTES) != 0)
    return SLOT_FOREIGN;
  if (get32 (bytes + AT_NUMBER) != number) /* landed in the wrong place */
    return SLOT_INVALID;
  return decode_record (bytes, slot) ? SLOT_VALID : SLOT_FOREIGN;
}

bool
slot_same_record (const struct record *a, const struct record *b)
{
  return a->owner == b->owner && a->last_end == b->last_end &&
         a->disk_bytes == b->disk_bytes && a->chunk_bytes == b->chunk_bytes &&
         a->export_id == b->export_id && a->origin == b->origin &&
         a->map_id == b->map_id &&
         strcmp (a->destination, b->destination) == 0 &&
         strcmp (a->source, b->source) == 0;
}
