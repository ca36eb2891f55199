/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty map.  The first byte says what is made right of it, as it is not in
 * a damaged file; then the beginnings of the two slots of the header, FRONT
 * bytes each, and the marks.
 *
 * What is believed has a header that makes sense and the size that it says, and
 * all chunks of a block that is not whole are marked.  It can be gone on with,
 * and is the same when it is read again; what was made void is not believed.
 */

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "bytes.h"
#include "fuzz.h"
#include "state/dirty-map.h"

#define DIGEST 32
#define FRONT 164 /* with 64 bytes of the promise */
#define BLOCKS_MAX 3

enum right {
  RIGHT_KIND = 1,   /* magic, version and numbers of the slots */
  RIGHT_NAME = 2,   /* of the export */
  RIGHT_SLOT_0 = 4, /* digests */
  RIGHT_SLOT_1 = 8,
  RIGHT_BLOCK_0 = 16, /* the same, with id and number */
  RIGHT_SIZE = 32,    /* as many blocks as slot 0 says */
};

static uint8_t
  image[DIRTY_MAP_BLOCKS_OFFSET + BLOCKS_MAX * DIRTY_MAP_BLOCK_BYTES];

static void
digest (uint8_t *bytes, size_t size)
{
  gnutls_hash_fast (GNUTLS_DIG_SHA256, bytes, size - DIGEST,
                    bytes + size - DIGEST);
}

static void
fill_slot (unsigned number, const uint8_t *front, uint8_t what)
{
  uint8_t *slot = image + (size_t)number * DIRTY_MAP_SLOT_STRIDE;

  memcpy (slot, front, FRONT);
  if (what & RIGHT_KIND) {
    memcpy (slot, "nbdmigrate dirty", 16);
    put32 (slot + 16, 1);
    put32 (slot + 20, number);
  }
  if (what & RIGHT_NAME)
    gnutls_hash_fast (GNUTLS_DIG_SHA256, "disk", 4, slot + 64);
  if (what & (number == 0 ? RIGHT_SLOT_0 : RIGHT_SLOT_1))
    digest (slot, DIRTY_MAP_SLOT_BYTES);
}

static void
fill_blocks (const uint8_t *data, size_t size, uint8_t what)
{
  uint8_t *block = image + DIRTY_MAP_BLOCKS_OFFSET;

  memcpy (block, data,
          size < sizeof image - DIRTY_MAP_BLOCKS_OFFSET
            ? size
            : sizeof image - DIRTY_MAP_BLOCKS_OFFSET);
  if (!(what & RIGHT_BLOCK_0))
    return;
  memcpy (block, image + 32, 8);
  put64 (block + 8, 0);
  digest (block, DIRTY_MAP_BLOCK_BYTES);
}

/* As the first slot has it. */
static uint64_t
blocks_of_slot (void)
{
  const uint64_t chunk = get64 (image + 56);

  return chunk == 0 ? 0 : dirty_map_blocks (get64 (image + 48), chunk);
}

static void
failed (void *opaque, int error, bool voided)
{
  (void)opaque;
  (void)error;
  (void)voided;
  assert (!"a mark could not be written");
}

static bool
is_marked (const struct dirty_map *m, uint64_t chunk)
{
  return dirty_map_marks (m)[chunk / 64] >> chunk % 64 & 1;
}

static void
check_blocks (struct dirty_map_file *f, const struct dirty_map *m,
              uint64_t damaged)
{
  const struct dirty_map_header *h = &f->header;
  const uint64_t per_block = UINT64_C (64) * DIRTY_MAP_BLOCK_WORDS;
  const uint64_t chunks =
    h->disk_bytes / h->chunk_bytes + (h->disk_bytes % h->chunk_bytes != 0);
  const uint64_t blocks = dirty_map_blocks (h->disk_bytes, h->chunk_bytes);

  assert (damaged <= blocks);
  for (uint64_t b = 0; b < blocks && damaged == blocks; b++)
    assert (is_marked (m, b * per_block) &&
            is_marked (m, (b + 1) * per_block < chunks ? (b + 1) * per_block - 1
                                                       : chunks - 1));
}

/* Another process goes on with it. */
static void
load_again (const struct dirty_map *before)
{
  struct dirty_map_file *f = dirty_map_file_new ("./map", "disk", false);
  struct dirty_map_header h;
  struct dirty_map *m;
  uint64_t damaged;
  char *why;

  assert (f != NULL && dirty_map_file_open (f, &why) == 0);
  h = f->header;
  m = dirty_map_new (f, h.disk_bytes, h.chunk_bytes, failed, NULL);
  assert (m != NULL && dirty_map_load (m, &h, &damaged) == 0 && damaged == 0);
  assert (memcmp (dirty_map_marks (m), dirty_map_marks (before),
                  8 * dirty_map_words (h.disk_bytes, h.chunk_bytes)) == 0);
  assert (dirty_map_void (m) == 0);
  dirty_map_free (m);
  assert (dirty_map_file_open (f, &why) == 0 &&
          f->header.state == DIRTY_MAP_VOID);
  dirty_map_file_free (f);
}

/* One that is believed. */
static void
go_on (struct dirty_map_file *f)
{
  struct dirty_map_header h = f->header;
  struct dirty_map *m;
  uint64_t damaged;

  assert (h.id != 0 && h.chunk_bytes != 0 &&
          (h.chunk_bytes & (h.chunk_bytes - 1)) == 0 &&
          strlen (h.promise) <= DIRTY_MAP_PROMISE_MAX);
  assert (dirty_map_blocks (h.disk_bytes, h.chunk_bytes) <= BLOCKS_MAX);
  if (h.state == DIRTY_MAP_VOID)
    return;
  h.state = DIRTY_MAP_IN_USE;
  m = dirty_map_new (f, h.disk_bytes, h.chunk_bytes, failed, NULL);
  assert (m != NULL && dirty_map_load (m, &h, &damaged) == 0);
  check_blocks (f, m, damaged);
  if (h.disk_bytes > 0) {
    dirty_map_mark (m, h.disk_bytes / 2, 1);
    assert (is_marked (m, h.disk_bytes / 2 / h.chunk_bytes));
  }
  load_again (m);
  dirty_map_free (m);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct dirty_map_file *f = dirty_map_file_new ("./map", "disk", false);
  char *why = NULL;
  uint64_t blocks = 1;

  assert (f != NULL);
  if (size >= 1 + 2 * FRONT) {
    memset (image, 0, sizeof image);
    fill_slot (0, data + 1, data[0]);
    fill_slot (1, data + 1 + FRONT, data[0]);
    fill_blocks (data + 1 + 2 * FRONT, size - 1 - 2 * FRONT, data[0]);
    if (data[0] & RIGHT_SIZE)
      blocks = blocks_of_slot ();
    fuzz_store ("map", image,
                DIRTY_MAP_BLOCKS_OFFSET +
                  (blocks < BLOCKS_MAX ? blocks : 1) * DIRTY_MAP_BLOCK_BYTES);
    if (dirty_map_file_open (f, &why) == 0)
      go_on (f);
    else
      assert (why != NULL && dirty_map_file_void (f) == 0);
    free (why);
  }
  dirty_map_file_free (f);
  return 0;
}
