/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner record.  The first byte says which of the two slots get the digest
 * of what they are, as whoever damages a file does not; then slot 0 and slot 1
 * without their digests.
 *
 * What is believed is mended, is the same when it is looked at again, and never
 * an unknown owner; what is not believed can be settled by writing anew.
 */

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "fuzz.h"
#include "record-slot.h"

#define BODY (RECORD_SLOT_BYTES - RECORD_DIGEST_BYTES)

static uint8_t image[RECORD_MAP_OFFSET];

static void
fill_slot (unsigned number, const uint8_t *data, size_t size, bool sound)
{
  uint8_t *slot = image + (size_t)number * RECORD_SLOT_STRIDE;

  memcpy (slot, data, size < BODY ? size : BODY);
  if (sound)
    gnutls_hash_fast (GNUTLS_DIG_SHA256, slot, BODY, slot + BODY);
}

static void
write_anew (struct record_file *f, const struct record *rec)
{
  struct record again;
  char *why = NULL;

  assert (record_write (f, rec, &why) == RECORD_WRITTEN);
  free (why);
  assert (record_peek (f, 0, &again, &why) == RECORD_OK);
  free (why);
  assert (slot_same_record (&again, rec));
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct record_file *f = record_new (".", "", false);
  struct record rec = { .owner = OWNER_FENCED, .disk_bytes = 7 }, again;
  enum record_status status;
  char *why = NULL;

  if (size == 0 || f == NULL)
    goto out;
  memset (image, 0, sizeof image);
  fill_slot (0, data + 1, size - 1, data[0] & 1);
  if (size - 1 > BODY)
    fill_slot (1, data + 1 + BODY, size - 1 - BODY, data[0] & 2);
  fuzz_store ("state", image, data[0] & 4 ? sizeof image / 2 : sizeof image);
  status = record_open (f, 0, &rec, &why);
  assert ((why != NULL) == (status == RECORD_UNREADABLE));
  free (why);
  if (status == RECORD_OK) {
    assert (rec.owner != OWNER_UNKNOWN);
    assert (record_peek (f, 0, &again, &why) == RECORD_OK);
    assert (slot_same_record (&rec, &again));
  }
  else
    rec = (struct record){ .owner = OWNER_FENCED, .disk_bytes = 7 };
  write_anew (f, &rec);
out:
  record_free (f);
  return 0;
}
