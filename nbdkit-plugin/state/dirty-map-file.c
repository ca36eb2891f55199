/* SPDX-License-Identifier: BSD-3-Clause */
/* A slot of the header, and a block of marks, as bytes:
 *
 *   offset  bytes                              offset  bytes
 *        0     16  magic                            0      8  id
 *       16      4  format version                   8      8  block number
 *       20      4  slot number, 0 or 1             16   4048  506 words
 *       24      8  generation                    4064     32  SHA-256 of the
 *       32      8  id                                         bytes before
 *       40      4  state
 *       44      4  1: detached
 *       48      8  disk size
 *       56      8  chunk size
 *       64     32  SHA-256 of the export's name
 *       96      4  length of the promise
 *      100   2048  promise
 *     4064     32  SHA-256 of the bytes before
 *
 * Numbers are little endian.  The slots are written one after the other, each
 * made durable before the next, so that one of them is whole at any time; of
 * two that are, the later one counts.  So a header that was made void stays so
 * when a slot of it rots.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "bytes.h"
#include "cleanup.h"
#include "dirty-map-file.h"
#include "state-file.h"

#define FORMAT_VERSION 1
#define DIGEST_BYTES 32
#define WORD_BITS 64

static const char magic[] = "nbdmigrate dirty"; /* without the final 0 */

enum {
  AT_MAGIC = 0,
  AT_VERSION = 16,
  AT_NUMBER = 20,
  AT_GENERATION = 24,
  AT_ID = 32,
  AT_STATE = 40,
  AT_DETACHED = 44,
  AT_DISK_BYTES = 48,
  AT_CHUNK_BYTES = 56,
  AT_NAME_DIGEST = 64,
  AT_PROMISE_LENGTH = 96,
  AT_PROMISE = 100,
  AT_DIGEST = DIRTY_MAP_SLOT_BYTES - DIGEST_BYTES,
};

enum {
  BLOCK_AT_ID = 0,
  BLOCK_AT_NUMBER = 8,
  BLOCK_AT_WORDS = 16,
  BLOCK_AT_DIGEST = DIRTY_MAP_BLOCK_BYTES - DIGEST_BYTES,
};

_Static_assert(AT_PROMISE + DIRTY_MAP_PROMISE_MAX <= AT_DIGEST,
               "the promise fits");
_Static_assert(BLOCK_AT_WORDS + 8 * DIRTY_MAP_BLOCK_WORDS == BLOCK_AT_DIGEST,
               "the block is full");

/* ---- Common ------------------------------------------------------------- */

static int
sha256 (const void *data, size_t bytes, uint8_t digest[DIGEST_BYTES])
{
  if (gnutls_hash_fast (GNUTLS_DIG_SHA256, data, bytes, digest) == 0)
    return 0;
  errno = ENOMEM;
  return -1;
}

static bool
has_digest (const uint8_t *data, size_t bytes)
{
  uint8_t real[DIGEST_BYTES];

  return sha256 (data, bytes, real) == 0 &&
         memcmp (real, data + bytes, sizeof real) == 0;
}

/* errno stays. */
static void __attribute__ ((format (printf, 2, 3)))
explain (char **why, const char *fmt, ...)
{
  const int error = errno;
  va_list args;

  va_start (args, fmt);
  if (vasprintf (why, fmt, args) == -1)
    *why = NULL;
  va_end (args);
  errno = error;
}

static uint64_t
divide_up (uint64_t a, uint64_t b)
{
  return a / b + (a % b != 0);
}

uint64_t
dirty_map_words (uint64_t disk_bytes, uint64_t chunk_bytes)
{
  return divide_up (divide_up (disk_bytes, chunk_bytes), WORD_BITS);
}

uint64_t
dirty_map_blocks (uint64_t disk_bytes, uint64_t chunk_bytes)
{
  return divide_up (dirty_map_words (disk_bytes, chunk_bytes),
                    DIRTY_MAP_BLOCK_WORDS);
}

static off_t
block_offset (uint64_t block)
{
  return DIRTY_MAP_BLOCKS_OFFSET + (off_t)(block * DIRTY_MAP_BLOCK_BYTES);
}

struct dirty_map_file *
dirty_map_file_new (const char *path, const char *export_name, bool sync)
{
  struct dirty_map_file *f = calloc (1, sizeof *f);

  if (f == NULL)
    return NULL;
  f->fd = -1;
  f->sync = sync;
  f->path = strdup (path);
  if (f->path != NULL &&
      sha256 (export_name, strlen (export_name), f->name_digest) == 0)
    return f;
  dirty_map_file_free (f);
  errno = ENOMEM;
  return NULL;
}

static void
close_file (struct dirty_map_file *f)
{
  const int error = errno;

  if (f->fd != -1)
    close (f->fd);
  f->fd = -1;
  errno = error;
}

void
dirty_map_file_free (struct dirty_map_file *f)
{
  if (f == NULL)
    return;
  close_file (f);
  free (f->path);
  free (f);
}

/* ---- The header --------------------------------------------------------- */

static int
encode_slot (const struct dirty_map_file *f, const struct dirty_map_header *h,
             uint64_t generation, unsigned number,
             uint8_t bytes[DIRTY_MAP_SLOT_BYTES])
{
  const size_t length = strnlen (h->promise, DIRTY_MAP_PROMISE_MAX);

  memset (bytes, 0, DIRTY_MAP_SLOT_BYTES);
  memcpy (bytes + AT_MAGIC, magic, sizeof magic - 1);
  put32 (bytes + AT_VERSION, FORMAT_VERSION);
  put32 (bytes + AT_NUMBER, number);
  put64 (bytes + AT_GENERATION, generation);
  put64 (bytes + AT_ID, h->id);
  put32 (bytes + AT_STATE, h->state);
  put32 (bytes + AT_DETACHED, h->detached);
  put64 (bytes + AT_DISK_BYTES, h->disk_bytes);
  put64 (bytes + AT_CHUNK_BYTES, h->chunk_bytes);
  memcpy (bytes + AT_NAME_DIGEST, f->name_digest, DIGEST_BYTES);
  put32 (bytes + AT_PROMISE_LENGTH, length);
  memcpy (bytes + AT_PROMISE, h->promise, length);
  return sha256 (bytes, AT_DIGEST, bytes + AT_DIGEST);
}

static bool
makes_sense (const struct dirty_map_header *h)
{
  const uint64_t chunk = h->chunk_bytes;

  return h->id != 0 && h->state >= DIRTY_MAP_IN_USE &&
         h->state <= DIRTY_MAP_VOID && chunk != 0 &&
         (chunk & (chunk - 1)) == 0 &&
         divide_up (h->disk_bytes, chunk) <= DIRTY_MAP_CHUNKS_MAX;
}

/* False: torn, rotten, of another export or another version. */
static bool
decode_slot (const struct dirty_map_file *f,
             const uint8_t bytes[DIRTY_MAP_SLOT_BYTES], unsigned number,
             struct dirty_map_header *h, uint64_t *generation)
{
  const uint32_t length = get32 (bytes + AT_PROMISE_LENGTH);

  if (memcmp (bytes + AT_MAGIC, magic, sizeof magic - 1) != 0 ||
      !has_digest (bytes, AT_DIGEST) ||
      get32 (bytes + AT_VERSION) != FORMAT_VERSION ||
      get32 (bytes + AT_NUMBER) != number ||
      memcmp (bytes + AT_NAME_DIGEST, f->name_digest, DIGEST_BYTES) != 0)
    return false;
#ifndef PLANT_BUG_map_promise
  if (length > DIRTY_MAP_PROMISE_MAX)
    return false;
#endif
  *generation = get64 (bytes + AT_GENERATION);
  *h = (struct dirty_map_header){
    .id = get64 (bytes + AT_ID),
    .state = get32 (bytes + AT_STATE),
    .detached = get32 (bytes + AT_DETACHED) != 0,
    .disk_bytes = get64 (bytes + AT_DISK_BYTES),
    .chunk_bytes = get64 (bytes + AT_CHUNK_BYTES),
  };
  memcpy (h->promise, bytes + AT_PROMISE, length);
  return makes_sense (h);
}

/* The later one of the slots that are whole.  False: none is. */
static bool
read_header (struct dirty_map_file *f)
{
  uint8_t bytes[DIRTY_MAP_SLOT_BYTES];
  bool found = false;

  for (unsigned i = 0; i < 2; i++) {
    struct dirty_map_header h;
    uint64_t generation;

    if (state_file_read (f->fd, bytes, sizeof bytes,
                         (off_t)i * DIRTY_MAP_SLOT_STRIDE) == -1 ||
        !decode_slot (f, bytes, i, &h, &generation))
      continue;
    if (!found || generation > f->generation) {
      f->header = h;
      f->generation = generation;
    }
    found = true;
  }
  return found;
}

int
dirty_map_file_open (struct dirty_map_file *f, char **why)
{
  struct stat st;

  *why = NULL;
  close_file (f);
  f->fd = state_file_open (f->path, O_RDWR, why);
  if (f->fd == -1)
    return -1;
  errno = EINVAL;
  if (!read_header (f)) {
    explain (why, "it has no header that can be believed: it was damaged, or "
                  "is of another export or another version");
    return -1;
  }
  if (fstat (f->fd, &st) == 0 &&
      st.st_size == block_offset (dirty_map_blocks (f->header.disk_bytes,
                                                    f->header.chunk_bytes)))
    return 0;
  explain (why, "it has not the size that its header says");
  errno = EINVAL;
  return -1;
}

int
dirty_map_file_sync (const struct dirty_map_file *f)
{
  return f->sync ? fdatasync (f->fd) : 0;
}

int
dirty_map_file_set (struct dirty_map_file *f, const struct dirty_map_header *h)
{
  uint8_t bytes[DIRTY_MAP_SLOT_BYTES];

  f->generation++;
  for (unsigned i = 0; i < 2; i++)
    if (encode_slot (f, h, f->generation, i, bytes) == -1 ||
        state_file_write (f->fd, bytes, sizeof bytes,
                          (off_t)i * DIRTY_MAP_SLOT_STRIDE) == -1 ||
        dirty_map_file_sync (f) == -1)
      return -1;
  f->header = *h;
  return 0;
}

static int
remove_file (struct dirty_map_file *f)
{
  CLEANUP_FREE char *why = NULL;

  close_file (f);
  if (state_file_check (f->path, &why) == -1) /* it is none of ours */
    return -1;
  if (unlink (f->path) == -1 && errno != ENOENT)
    return -1;
  return f->sync ? state_file_sync_directory (f->path) : 0;
}

int
dirty_map_file_void (struct dirty_map_file *f)
{
  struct dirty_map_header h = f->header;

  h.state = DIRTY_MAP_VOID;
  if (f->fd != -1 && h.id != 0 && dirty_map_file_set (f, &h) == 0)
    return 0;
  return remove_file (f);
}

/* ---- The marks ---------------------------------------------------------- */

int
dirty_map_file_write (const struct dirty_map_file *f, uint64_t block,
                      const uint64_t words[DIRTY_MAP_BLOCK_WORDS])
{
  uint8_t bytes[DIRTY_MAP_BLOCK_BYTES];

  put64 (bytes + BLOCK_AT_ID, f->header.id);
  put64 (bytes + BLOCK_AT_NUMBER, block);
  for (size_t i = 0; i < DIRTY_MAP_BLOCK_WORDS; i++)
    put64 (bytes + BLOCK_AT_WORDS + 8 * i, words[i]);
  if (sha256 (bytes, BLOCK_AT_DIGEST, bytes + BLOCK_AT_DIGEST) == -1)
    return -1;
  return state_file_write (f->fd, bytes, sizeof bytes, block_offset (block));
}

int
dirty_map_file_read (const struct dirty_map_file *f, uint64_t block,
                     uint64_t words[DIRTY_MAP_BLOCK_WORDS])
{
  uint8_t bytes[DIRTY_MAP_BLOCK_BYTES];

  if (state_file_read (f->fd, bytes, sizeof bytes, block_offset (block)) == -1)
    return -1;
  if (!has_digest (bytes, BLOCK_AT_DIGEST) ||
      get64 (bytes + BLOCK_AT_ID) != f->header.id ||
      get64 (bytes + BLOCK_AT_NUMBER) != block) {
    errno = EINVAL;
    return -1;
  }
  for (size_t i = 0; i < DIRTY_MAP_BLOCK_WORDS; i++)
    words[i] = get64 (bytes + BLOCK_AT_WORDS + 8 * i);
  return 0;
}

/* ---- A new one ---------------------------------------------------------- */

/* All of it, so that later writes need no room.  No mark counts yet. */
static int
fill (struct dirty_map_file *f, const struct dirty_map_header *h)
{
  const uint64_t blocks = dirty_map_blocks (h->disk_bytes, h->chunk_bytes);
  uint64_t ones[DIRTY_MAP_BLOCK_WORDS];
  int error;

  memset (ones, 0xff, sizeof ones);
  error = posix_fallocate (f->fd, 0, block_offset (blocks));
  if (error != 0) {
    errno = error;
    return -1;
  }
  if (ftruncate (f->fd, block_offset (blocks)) == -1)
    return -1;
  for (uint64_t i = 0; i < blocks; i++)
    if (dirty_map_file_write (f, i, ones) == -1)
      return -1;
  return f->sync ? fsync (f->fd) : 0;
}

static int
open_or_create (struct dirty_map_file *f, bool *is_new, char **why)
{
  *why = NULL;
  if (f->fd == -1)
    f->fd = state_file_open (f->path, O_RDWR, why);
  if (f->fd == -1 && errno == ENOENT) {
    *is_new = true;
    f->fd = state_file_open (f->path, O_RDWR | O_CREAT, why);
  }
  return f->fd == -1 ? -1 : 0;
}

int
dirty_map_file_make (struct dirty_map_file *f,
                     const struct dirty_map_header *header, char **why)
{
  struct dirty_map_header making = *header;
  bool is_new = false;
  int error;

  making.state = DIRTY_MAP_VOID;
  if (open_or_create (f, &is_new, why) == -1)
    return -1;
  /* What was there is void before a block of it is written over. */
  if (dirty_map_file_set (f, &making) == 0 && fill (f, header) == 0 &&
      dirty_map_file_set (f, header) == 0 &&
      (!is_new || !f->sync || state_file_sync_directory (f->path) == 0))
    return 0;
  error = errno;
  remove_file (f);
  errno = error;
  return -1;
}
