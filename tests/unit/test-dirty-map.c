/* SPDX-License-Identifier: BSD-3-Clause */
/* The durable dirty map (R14): what is in its file after damage of any kind,
 * and that no write goes on before its mark is durable.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "bytes.h"
#include "dirty-map-unit.h"

#define SPAN_CHUNKS (DIRTY_MAP_SPAN / CHUNK)

/* Three blocks, the last of them short, and the last chunk cut. */
#define CHUNKS (2 * DIRTY_MAP_BLOCK_WORDS * 64 + 100)
#define DISK (CHUNKS * CHUNK - 512)

static const char path[] = "dirty-map";

/* ---- What the system does ------------------------------------------------ */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned syncs;
static int sync_error, unlink_error; /* errno, or 0 */
static bool hold;                    /* a sync ends no sooner */
static unsigned held;                /* syncs that wait for that */

int
fdatasync (int fd)
{
  int error;

  (void)fd;
  pthread_mutex_lock (&lock);
  syncs++;
  held++;
  pthread_cond_broadcast (&changed);
  while (hold)
    pthread_cond_wait (&changed, &lock);
  held--;
  error = sync_error;
  pthread_mutex_unlock (&lock);
  errno = error;
  return error == 0 ? 0 : -1;
}

int
unlink (const char *name)
{
  if (unlink_error == 0)
    return syscall (SYS_unlinkat, AT_FDCWD, name, 0);
  errno = unlink_error;
  return -1;
}

static void
hold_syncs (bool on)
{
  pthread_mutex_lock (&lock);
  hold = on;
  pthread_cond_broadcast (&changed);
  pthread_mutex_unlock (&lock);
}

static void
wait_for_held_sync (void)
{
  pthread_mutex_lock (&lock);
  while (held == 0)
    pthread_cond_wait (&changed, &lock);
  pthread_mutex_unlock (&lock);
}

/* ---- The file ------------------------------------------------------------ */

static struct dirty_map_header
header_of (uint64_t id)
{
  struct dirty_map_header h = header_of_disk (id, DISK);

  strcpy (h.promise, "zero ");
  return h;
}

static struct dirty_map_file *
file_of (const char *export_name)
{
  struct dirty_map_file *f = dirty_map_file_new (path, export_name, true);

  assert (f != NULL);
  return f;
}

static int
open_file (struct dirty_map_file *f)
{
  char *why;
  const int r = dirty_map_file_open (f, &why);
  const int error = errno;

  free (why);
  errno = error;
  return r;
}

static void
make_file (uint64_t id)
{
  const struct dirty_map_header h = header_of (id);
  struct dirty_map_file *f = file_of ("");
  char *why;

  assert (dirty_map_file_make (f, &h, &why) == 0);
  dirty_map_file_free (f);
}

static void
get_bytes (uint8_t *bytes, size_t n, off_t at)
{
  const int fd = open (path, O_RDONLY);

  assert (fd != -1 && pread (fd, bytes, n, at) == (ssize_t)n);
  close (fd);
}

static void
put_bytes (const uint8_t *bytes, size_t n, off_t at)
{
  const int fd = open (path, O_WRONLY);

  assert (fd != -1 && pwrite (fd, bytes, n, at) == (ssize_t)n);
  close (fd);
}

/* Whether it is believed now. */
static bool
is_good (const char *export_name)
{
  struct dirty_map_file *f = file_of (export_name);
  const bool good = open_file (f) == 0;

  dirty_map_file_free (f);
  return good;
}

static void
test_file (void)
{
  struct dirty_map_file *f = file_of ("");
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];
  struct stat st;

  unlink (path);
  CU_ASSERT_EQUAL (open_file (f), -1);
  CU_ASSERT_EQUAL (errno, ENOENT);
  make_file (7);
  CU_ASSERT_EQUAL (stat (path, &st), 0);
  CU_ASSERT_EQUAL (st.st_size,
                   DIRTY_MAP_BLOCKS_OFFSET + 3 * DIRTY_MAP_BLOCK_BYTES);
  CU_ASSERT_EQUAL (st.st_mode & 0777, 0600);
  CU_ASSERT_EQUAL (open_file (f), 0);
  CU_ASSERT_EQUAL (f->header.id, 7);
  CU_ASSERT_EQUAL (f->header.state, DIRTY_MAP_IN_USE);
  CU_ASSERT_EQUAL (f->header.disk_bytes, DISK);
  CU_ASSERT_EQUAL (f->header.chunk_bytes, CHUNK);
  CU_ASSERT_FALSE (f->header.detached);
  CU_ASSERT_STRING_EQUAL (f->header.promise, "zero ");
  for (unsigned b = 0; b < 3; b++) {
    CU_ASSERT_EQUAL (dirty_map_file_read (f, b, words), 0);
    CU_ASSERT_EQUAL (words[0], UINT64_MAX);
  }
  CU_ASSERT_EQUAL (dirty_map_file_read (f, 3, words), -1);
  dirty_map_file_free (f);
}

/* One slot may be damaged in any byte, and the other one counts. */
static void
test_damaged_header (void)
{
  uint8_t good[2][DIRTY_MAP_SLOT_BYTES], bad[DIRTY_MAP_SLOT_BYTES];
  unsigned lost = 0, believed = 0;

  make_file (7);
  for (unsigned s = 0; s < 2; s++)
    get_bytes (good[s], sizeof bad, s * DIRTY_MAP_SLOT_STRIDE);
  for (size_t i = 0; i < sizeof bad; i++) {
    for (unsigned s = 0; s < 2; s++) {
      memcpy (bad, good[s], sizeof bad);
      bad[i] ^= 0x40;
      put_bytes (bad, sizeof bad, s * DIRTY_MAP_SLOT_STRIDE);
      lost += s == 0 && !is_good (""); /* the other one is whole */
    }
    believed += is_good (""); /* both are damaged */
    put_bytes (good[0], sizeof bad, 0);
    put_bytes (good[1], sizeof bad, DIRTY_MAP_SLOT_STRIDE);
  }
  CU_ASSERT_EQUAL (lost, 0);
  CU_ASSERT_EQUAL (believed, 0);
  CU_ASSERT_TRUE (is_good (""));
}

/* Both slots, with digests that are right: 32 bits at this offset, or 64, are
 * another number.
 */
static void
expect_bad (size_t at, bool wide, uint64_t value)
{
  uint8_t slot[DIRTY_MAP_SLOT_BYTES];
  const size_t digest = sizeof slot - 32;

  make_file (7);
  for (unsigned s = 0; s < 2; s++) {
    get_bytes (slot, sizeof slot, s * DIRTY_MAP_SLOT_STRIDE);
    if (wide)
      put64 (slot + at, value);
    else
      put32 (slot + at, value);
    assert (gnutls_hash_fast (GNUTLS_DIG_SHA256, slot, digest, slot + digest) ==
            0);
    put_bytes (slot, sizeof slot, s * DIRTY_MAP_SLOT_STRIDE);
  }
  CU_ASSERT_FALSE (is_good (""));
}

/* What nobody writes. */
static void
test_strange_header (void)
{
  expect_bad (16, false, 2); /* the version */
  expect_bad (20, false, 7); /* the number of the slot */
  expect_bad (32, true, 0);  /* the id */
  expect_bad (40, false, 0); /* the state */
  expect_bad (40, false, DIRTY_MAP_VOID + 1);
  expect_bad (48, true, UINT64_MAX); /* the size: too many chunks */
  expect_bad (48, true, 2 * DISK);   /* another one than the file's */
  expect_bad (56, true, 0);          /* the chunk */
  expect_bad (56, true, CHUNK + 1);
  expect_bad (96, false, DIRTY_MAP_PROMISE_MAX + 1);
}

/* A header that is written over is torn at any byte: it is the old one or the
 * new one, and void stays void.
 */
static void
test_torn_header (void)
{
  uint8_t old[2][DIRTY_MAP_SLOT_BYTES], new[2][DIRTY_MAP_SLOT_BYTES];
  struct dirty_map_file *f = file_of ("");
  unsigned none = 0, again = 0;

  make_file (7);
  assert (open_file (f) == 0);
  for (unsigned s = 0; s < 2; s++)
    get_bytes (old[s], sizeof old[s], s * DIRTY_MAP_SLOT_STRIDE);
  assert (dirty_map_file_void (f) == 0);
  for (unsigned s = 0; s < 2; s++)
    get_bytes (new[s], sizeof new[s], s * DIRTY_MAP_SLOT_STRIDE);
  for (size_t i = 0; i <= sizeof old[0]; i++) {
    put_bytes (old[0], sizeof old[0], 0);
    put_bytes (old[1], sizeof old[1], DIRTY_MAP_SLOT_STRIDE);
    put_bytes (new[0], i, 0);
    none += open_file (f) == -1;
    put_bytes (new[0], sizeof new[0], 0);
    put_bytes (new[1], i, DIRTY_MAP_SLOT_STRIDE);
    again += open_file (f) == -1 || f->header.state != DIRTY_MAP_VOID;
  }
  CU_ASSERT_EQUAL (none, 0);
  CU_ASSERT_EQUAL (again, 0);
  dirty_map_file_free (f);
}

/* A block, too, and nothing but one of the two is read. */
static void
test_torn_block (void)
{
  uint64_t words[DIRTY_MAP_BLOCK_WORDS] = { 5, 6 };
  uint8_t old[DIRTY_MAP_BLOCK_BYTES], new[DIRTY_MAP_BLOCK_BYTES];
  const off_t at = DIRTY_MAP_BLOCKS_OFFSET + DIRTY_MAP_BLOCK_BYTES;
  struct dirty_map_file *f = file_of ("");
  unsigned wrong = 0, whole = 0;

  make_file (7);
  assert (open_file (f) == 0);
  get_bytes (old, sizeof old, at);
  assert (dirty_map_file_write (f, 1, words) == 0);
  get_bytes (new, sizeof new, at);
  for (size_t i = 0; i <= sizeof old; i++) {
    put_bytes (new, i, at);
    put_bytes (old + i, sizeof old - i, at + i);
    if (dirty_map_file_read (f, 1, words) == -1)
      continue;
    whole++;
    wrong += !(words[0] == UINT64_MAX && words[1] == UINT64_MAX) &&
             !(words[0] == 5 && words[1] == 6);
  }
  CU_ASSERT_EQUAL (wrong, 0);
  CU_ASSERT_TRUE (whole >= 2);

  /* A block that a file system gives back as zeroes, or in another place. */
  memset (old, 0, sizeof old);
  put_bytes (old, sizeof old, at);
  CU_ASSERT_EQUAL (dirty_map_file_read (f, 1, words), -1);
  put_bytes (new, sizeof new, DIRTY_MAP_BLOCKS_OFFSET);
  CU_ASSERT_EQUAL (dirty_map_file_read (f, 0, words), -1);
  dirty_map_file_free (f);
}

static void
test_foreign (void)
{
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];
  uint8_t block[DIRTY_MAP_BLOCK_BYTES];
  struct dirty_map_file *f = file_of ("");

  make_file (7);
  CU_ASSERT_FALSE (is_good ("other"));
  get_bytes (block, sizeof block, DIRTY_MAP_BLOCKS_OFFSET);
  make_file (8);
  put_bytes (block, sizeof block, DIRTY_MAP_BLOCKS_OFFSET); /* of the first */
  assert (open_file (f) == 0);
  CU_ASSERT_EQUAL (f->header.id, 8);
  CU_ASSERT_EQUAL (dirty_map_file_read (f, 0, words), -1);
  CU_ASSERT_EQUAL (dirty_map_file_read (f, 1, words), 0);
  CU_ASSERT_EQUAL (truncate (path, DIRTY_MAP_BLOCKS_OFFSET), 0);
  CU_ASSERT_FALSE (is_good (""));
  CU_ASSERT_EQUAL (truncate (path, 100), 0);
  CU_ASSERT_FALSE (is_good (""));
  dirty_map_file_free (f);
}

/* ---- The map ------------------------------------------------------------- */

struct world {
  struct dirty_map_file *file;
  struct dirty_map *map;
  unsigned failures;
  bool voided;
};

static void
failed (void *opaque, int error, bool voided)
{
  struct world *w = opaque;

  (void)error;
  w->failures++;
  w->voided = voided;
}

static void
open_world (struct world *w)
{
  *w = (struct world){ .file = file_of ("") };
  w->map = dirty_map_new (w->file, DISK, CHUNK, failed, w);
  assert (w->map != NULL);
}

static void
begin_world (struct world *w)
{
  const struct dirty_map_header h = header_of (7);
  char *why;

  open_world (w);
  assert (dirty_map_begin (w->map, &h, &why) == 0);
}

/* As the next process finds it. */
static uint64_t
load_world (struct world *w)
{
  const struct dirty_map_header h = header_of (7);
  uint64_t damaged;

  open_world (w);
  assert (open_file (w->file) == 0);
  assert (dirty_map_load (w->map, &h, &damaged) == 0);
  return damaged;
}

static void
close_world (struct world *w)
{
  dirty_map_free (w->map);
  dirty_map_file_free (w->file);
}

static struct dirty_map_status
status_of (struct world *w)
{
  struct dirty_map_status s;

  dirty_map_get_status (w->map, &s);
  return s;
}

static bool
is_marked (const struct world *w, uint64_t chunk)
{
  uint64_t word;

  dirty_map_copy_marks (w->map, chunk / 64, 1, &word);
  CU_ASSERT_EQUAL (word, dirty_map_marks (w->map)[chunk / 64]);
  return (word >> chunk % 64 & 1) != 0;
}

/* Clear chunks [first, first + n), as the tracker would have it. */
static void
give (struct world *w, uint64_t first, uint64_t n)
{
  const uint64_t words = (CHUNKS + 63) / 64;
  uint64_t *bits = calloc (words, sizeof *bits);

  for (uint64_t c = first; c < first + n; c++)
    bits[c / 64] |= UINT64_C (1) << c % 64;
  if (first + n == CHUNKS)
    bits[words - 1] |= UINT64_MAX << CHUNKS % 64;
  dirty_map_clear (w->map, 0, bits, words);
  free (bits);
}

static void
clear (struct world *w, uint64_t first, uint64_t n, bool exact)
{
  assert (dirty_map_clear_begin (w->map, exact));
  give (w, first, n);
  dirty_map_clear_end (w->map);
}

static void
mark (struct world *w, uint64_t chunk)
{
  dirty_map_mark (w->map, chunk * CHUNK + 1, 10);
}

static void
test_life (void)
{
  struct world w;

  begin_world (&w);
  CU_ASSERT_EQUAL (status_of (&w).marked_bytes, DISK);
  syncs = 0;
  mark (&w, 0);
  mark (&w, CHUNKS - 1);
  CU_ASSERT_EQUAL (syncs, 0); /* all is marked */

  clear (&w, 0, CHUNKS, false);
  CU_ASSERT_EQUAL (status_of (&w).marked_bytes, 0);
  CU_ASSERT_EQUAL (syncs, 0); /* it need not be durable */
  mark (&w, 0);
  CU_ASSERT_EQUAL (syncs, 1);
  mark (&w, 0);
  mark (&w, SPAN_CHUNKS - 1); /* beside it */
  CU_ASSERT_EQUAL (syncs, 1);
  mark (&w, SPAN_CHUNKS);
  CU_ASSERT_EQUAL (syncs, 2);
  dirty_map_mark (w.map, 100 * CHUNK - 1, 2); /* of two chunks, two spans */
  CU_ASSERT_EQUAL (syncs, 3);
  dirty_map_mark (w.map, 5 * CHUNK, 0);
  mark (&w, CHUNKS - 1);
  CU_ASSERT_EQUAL (syncs, 4);
  CU_ASSERT_EQUAL (status_of (&w).first_touches, 4);
  close_world (&w);

  CU_ASSERT_EQUAL (load_world (&w), 0);
  CU_ASSERT_TRUE (is_marked (&w, 0) && is_marked (&w, SPAN_CHUNKS));
  CU_ASSERT_TRUE (is_marked (&w, 99) && is_marked (&w, 100));
  CU_ASSERT_TRUE (is_marked (&w, CHUNKS - 1));
  CU_ASSERT_FALSE (is_marked (&w, 2 * SPAN_CHUNKS));
  CU_ASSERT_FALSE (is_marked (&w, 1000));
  clear (&w, 0, 1, true);
  CU_ASSERT_FALSE (is_marked (&w, 0));
  CU_ASSERT_TRUE (is_marked (&w, 1));
  close_world (&w);
  load_world (&w);
  CU_ASSERT_FALSE (is_marked (&w, 0));
  CU_ASSERT_TRUE (is_marked (&w, 1));
  close_world (&w);
}

/* A span is cleared as a whole, or not at all. */
static void
test_spans (void)
{
  struct world w;

  begin_world (&w);
  clear (&w, 1, 2 * SPAN_CHUNKS, false);
  CU_ASSERT_TRUE (is_marked (&w, 1));
  CU_ASSERT_FALSE (is_marked (&w, SPAN_CHUNKS));
  CU_ASSERT_FALSE (is_marked (&w, 2 * SPAN_CHUNKS - 1));
  CU_ASSERT_TRUE (is_marked (&w, 2 * SPAN_CHUNKS));
  CU_ASSERT_EQUAL (status_of (&w).cleared, SPAN_CHUNKS);
  clear (&w, CHUNKS - CHUNKS % SPAN_CHUNKS, CHUNKS % SPAN_CHUNKS, false);
  CU_ASSERT_TRUE (CHUNKS % SPAN_CHUNKS == 0 || !is_marked (&w, CHUNKS - 1));
  close_world (&w);
}

/* Chunks that are longer than a span, or of which a word is shorter. */
static void
test_other_chunks (void)
{
  static const uint64_t sizes[] = { 512, 4096, 2 * DIRTY_MAP_SPAN };

  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    const uint64_t bits[2] = { UINT64_MAX, UINT64_MAX };
    struct dirty_map_header h = header_of (7);
    struct world w = { .file = file_of ("") };
    char *why;

    h.chunk_bytes = sizes[i];
    h.disk_bytes = 128 * sizes[i];
    w.map = dirty_map_new (w.file, h.disk_bytes, h.chunk_bytes, failed, &w);
    assert (w.map != NULL && dirty_map_begin (w.map, &h, &why) == 0);
    CU_ASSERT_EQUAL (status_of (&w).marked_bytes, h.disk_bytes);
    assert (dirty_map_clear_begin (w.map, false));
    dirty_map_clear (w.map, 1, bits, 2); /* there is no third word */
    dirty_map_clear_end (w.map);
    CU_ASSERT_EQUAL (status_of (&w).cleared, 64);
    CU_ASSERT_TRUE (is_marked (&w, 63));
    CU_ASSERT_FALSE (is_marked (&w, 64));
    CU_ASSERT_EQUAL (status_of (&w).marked_bytes, h.disk_bytes / 2);
    close_world (&w);
  }
}

/* A span that is cut by the end of the disk is marked as a whole. */
static void
test_last_span (void)
{
  const uint64_t none = UINT64_MAX;
  struct dirty_map_header h = header_of (7);
  struct world w = { .file = file_of ("") };
  char *why;

  h.disk_bytes = (SPAN_CHUNKS + 2) * CHUNK - 512;
  w.map = dirty_map_new (w.file, h.disk_bytes, CHUNK, failed, &w);
  assert (w.map != NULL && dirty_map_begin (w.map, &h, &why) == 0);
  assert (dirty_map_clear_begin (w.map, true));
  dirty_map_clear (w.map, 0, &none, 1);
  dirty_map_clear_end (w.map);
  CU_ASSERT_EQUAL (status_of (&w).marked_bytes, 0);
  mark (&w, SPAN_CHUNKS);
  CU_ASSERT_TRUE (is_marked (&w, SPAN_CHUNKS + 1));
  CU_ASSERT_EQUAL (status_of (&w).marked_bytes, 2 * CHUNK - 512);
  close_world (&w);
}

/* A disk without a byte. */
static void
test_no_chunks (void)
{
  struct dirty_map_header h = header_of (7);
  struct world w = { .file = file_of ("") };
  char *why;

  h.disk_bytes = 0;
  w.map = dirty_map_new (w.file, 0, CHUNK, failed, &w);
  assert (w.map != NULL && dirty_map_begin (w.map, &h, &why) == 0);
  dirty_map_mark (w.map, 0, 0);
  CU_ASSERT_EQUAL (status_of (&w).marked_bytes, 0);
  CU_ASSERT_EQUAL (dirty_map_void (w.map), 0);
  CU_ASSERT_EQUAL (dirty_map_void (w.map), 0); /* it is so already */
  CU_ASSERT_EQUAL (dirty_map_set (w.map, &h), 0);
  CU_ASSERT_FALSE (dirty_map_clear_begin (w.map, true));
  close_world (&w);
  dirty_map_free (NULL);
  dirty_map_file_free (NULL);
}

/* R14: a mark that was read counts only when it is synced. */
static void
test_load_syncs (void)
{
  uint8_t byte;
  struct world w;

  begin_world (&w);
  clear (&w, 0, CHUNKS, false);
  mark (&w, 3);
  close_world (&w);
  syncs = 0;
  load_world (&w);
  CU_ASSERT_TRUE (syncs >= 3); /* the marks, and the two slots */
  syncs = 0;
  mark (&w, 3);
  CU_ASSERT_EQUAL (syncs, 0);
  close_world (&w);

  /* A damaged block is marked all over, the others are not, and it is mended.
   */
  get_bytes (&byte, 1, DIRTY_MAP_BLOCKS_OFFSET + DIRTY_MAP_BLOCK_BYTES + 99);
  byte ^= 1;
  put_bytes (&byte, 1, DIRTY_MAP_BLOCKS_OFFSET + DIRTY_MAP_BLOCK_BYTES + 99);
  CU_ASSERT_EQUAL (load_world (&w), 1);
  CU_ASSERT_TRUE (is_marked (&w, DIRTY_MAP_BLOCK_WORDS * 64));
  CU_ASSERT_TRUE (is_marked (&w, 2 * DIRTY_MAP_BLOCK_WORDS * 64 - 1));
  CU_ASSERT_FALSE (is_marked (&w, 2 * DIRTY_MAP_BLOCK_WORDS * 64));
  CU_ASSERT_FALSE (is_marked (&w, DIRTY_MAP_BLOCK_WORDS * 64 - 1));
  close_world (&w);
  CU_ASSERT_EQUAL (load_world (&w), 0);
  CU_ASSERT_TRUE (is_marked (&w, DIRTY_MAP_BLOCK_WORDS * 64));
  close_world (&w);

  /* What cannot be synced is not used, and not void by itself. */
  open_world (&w);
  assert (open_file (w.file) == 0);
  sync_error = EIO;
  uint64_t damaged;
  const struct dirty_map_header h = header_of (7);
  CU_ASSERT_EQUAL (dirty_map_load (w.map, &h, &damaged), -1);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_NONE);
  sync_error = 0;
  close_world (&w);
}

/* ---- Several threads ----------------------------------------------------- */

struct marker {
  struct world *world;
  uint64_t chunk;
  bool done; /* atomic */
  pthread_t thread;
};

static void *
mark_in_thread (void *opaque)
{
  struct marker *m = opaque;

  mark (m->world, m->chunk);
  __atomic_store_n (&m->done, true, __ATOMIC_SEQ_CST);
  return NULL;
}

static void
start_marker (struct marker *m, struct world *w, uint64_t chunk)
{
  *m = (struct marker){ .world = w, .chunk = chunk };
  assert (pthread_create (&m->thread, NULL, mark_in_thread, m) == 0);
}

static bool
is_done (struct marker *m)
{
  return __atomic_load_n (&m->done, __ATOMIC_SEQ_CST);
}

/* Until it waits, with so many others, or is done. */
static void
wait_for_touches (struct world *w, uint64_t n, struct marker *m)
{
  const struct timespec moment = { .tv_nsec = 1000000 };

  while (status_of (w).first_touches < n && !is_done (m))
    nanosleep (&moment, NULL);
}

#define MARKERS 16

/* One sync for the first, and one for all who came during it. */
static void
test_group (void)
{
  struct marker m[MARKERS];
  unsigned early = 0;
  struct world w;

  begin_world (&w);
  clear (&w, 0, CHUNKS, false);
  syncs = 0;
  hold_syncs (true);
  start_marker (&m[0], &w, 0);
  wait_for_held_sync ();
  for (unsigned i = 1; i < MARKERS; i++)
    start_marker (&m[i], &w, i * 4000); /* in all blocks */
  wait_for_touches (&w, MARKERS, &m[1]);
  for (unsigned i = 0; i < MARKERS; i++)
    early += is_done (&m[i]);
  CU_ASSERT_EQUAL (early, 0);
  hold_syncs (false);
  for (unsigned i = 0; i < MARKERS; i++)
    pthread_join (m[i].thread, NULL);
  CU_ASSERT_EQUAL (syncs, 2);
  CU_ASSERT_EQUAL (status_of (&w).syncs, 2);
  for (unsigned i = 0; i < MARKERS; i++)
    mark (&w, m[i].chunk);
  CU_ASSERT_EQUAL (syncs, 2);
  close_world (&w);
}

/* Who wants what another one waits for waits as well. */
static void
test_same_chunk (void)
{
  struct marker a, b;
  struct world w;

  begin_world (&w);
  clear (&w, 0, CHUNKS, false);
  syncs = 0;
  hold_syncs (true);
  start_marker (&a, &w, 7);
  wait_for_held_sync ();
  start_marker (&b, &w, 7);
  wait_for_touches (&w, 2, &b);
  CU_ASSERT_FALSE (is_done (&b));
  hold_syncs (false);
  pthread_join (a.thread, NULL);
  pthread_join (b.thread, NULL);
  CU_ASSERT_EQUAL (syncs, 1);
  close_world (&w);
}

/* A mark that is wanted again before its clearing is written stays. */
static void
test_mark_while_cleared (void)
{
  struct world w;

  begin_world (&w);
  assert (dirty_map_clear_begin (w.map, true));
  give (&w, 0, 100);
  syncs = 0;
  mark (&w, 10);
  CU_ASSERT_EQUAL (syncs, 0);
  dirty_map_clear_end (w.map);
  mark (&w, 10);
  CU_ASSERT_EQUAL (syncs, 0);
  mark (&w, 90);
  CU_ASSERT_EQUAL (syncs, 1);
  close_world (&w);
  load_world (&w);
  CU_ASSERT_TRUE (is_marked (&w, 10) && is_marked (&w, 90));
  CU_ASSERT_FALSE (is_marked (&w, 50));
  close_world (&w);
}

/* A mark that waits for its round is not taken for written by what clears. */
static void
test_clear_while_marked (void)
{
  struct marker a, b;
  struct world w;

  begin_world (&w);
  clear (&w, 0, 1000, true);
  assert (dirty_map_clear_begin (w.map, true));
  start_marker (&a, &w, 500); /* waits until the clearing has ended */
  wait_for_touches (&w, 1, &a);
  give (&w, 2000, 100);
  hold_syncs (true);
  dirty_map_clear_end (w.map);
  start_marker (&b, &w, 500);
  wait_for_touches (&w, 2, &b);
  CU_ASSERT_FALSE (is_done (&a));
  CU_ASSERT_FALSE (is_done (&b));
  hold_syncs (false);
  pthread_join (a.thread, NULL);
  pthread_join (b.thread, NULL);
  close_world (&w);
  load_world (&w);
  CU_ASSERT_TRUE (is_marked (&w, 500));
  CU_ASSERT_FALSE (is_marked (&w, 2050));
  close_world (&w);
}

static void *
void_in_thread (void *opaque)
{
  struct world *w = opaque;

  CU_ASSERT_EQUAL (dirty_map_void (w->map), 0);
  return NULL;
}

/* Nobody slips by before the file says that it is void. */
static void
test_void (void)
{
  struct marker newcomer;
  pthread_t thread;
  struct world w;

  begin_world (&w);
  clear (&w, 0, CHUNKS, false);
  hold_syncs (true);
  assert (pthread_create (&thread, NULL, void_in_thread, &w) == 0);
  wait_for_held_sync ();
  start_marker (&newcomer, &w, 5);
  wait_for_touches (&w, 1, &newcomer);
  CU_ASSERT_FALSE (is_done (&newcomer));
  hold_syncs (false);
  pthread_join (thread, NULL);
  pthread_join (newcomer.thread, NULL);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_NONE);
  syncs = 0;
  mark (&w, 6);
  CU_ASSERT_EQUAL (syncs, 0);
  CU_ASSERT_FALSE (dirty_map_clear_begin (w.map, true));
  CU_ASSERT_EQUAL (open_file (w.file), 0);
  CU_ASSERT_EQUAL (w.file->header.state, DIRTY_MAP_VOID);
  close_world (&w);
}

/* ---- Errors -------------------------------------------------------------- */

/* Where a mark cannot be made durable the file goes, and the write goes on. */
static void
test_sync_fails (void)
{
  struct world w;

  begin_world (&w);
  clear (&w, 0, CHUNKS, false);
  sync_error = EIO;
  mark (&w, 5);
  CU_ASSERT_EQUAL (w.failures, 1);
  CU_ASSERT_TRUE (w.voided); /* it was removed, as a header needs a sync */
  CU_ASSERT_EQUAL (access (path, F_OK), -1);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_NONE);
  sync_error = 0;
  mark (&w, 6);
  CU_ASSERT_EQUAL (w.failures, 1);
  close_world (&w);
}

/* Where nothing helps, either, it is stuck until it does. */
static void
test_stuck (void)
{
  const struct dirty_map_header h = header_of (9);
  struct world w;
  char *why;

  begin_world (&w);
  clear (&w, 0, CHUNKS, false);
  sync_error = EIO;
  unlink_error = EROFS;
  mark (&w, 5);
  CU_ASSERT_EQUAL (w.failures, 1);
  CU_ASSERT_FALSE (w.voided);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_STUCK);
  mark (&w, 6); /* the guest goes on */
  CU_ASSERT_EQUAL (dirty_map_void (w.map), -1);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_STUCK);
  sync_error = unlink_error = 0;
  CU_ASSERT_EQUAL (dirty_map_void (w.map), 0);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_NONE);
  CU_ASSERT_FALSE (is_good (""));
  CU_ASSERT_EQUAL (dirty_map_begin (w.map, &h, &why), 0);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_LIVE);
  CU_ASSERT_TRUE (is_good (""));
  close_world (&w);
}

/* A header that cannot be written: the map is void, or was removed. */
static void
test_set_fails (void)
{
  struct dirty_map_header h = header_of (7);
  struct world w;

  begin_world (&w);
  h.detached = true;
  CU_ASSERT_EQUAL (dirty_map_set (w.map, &h), 0);
  CU_ASSERT_EQUAL (open_file (w.file), 0);
  CU_ASSERT_TRUE (w.file->header.detached);
  sync_error = ENOSPC;
  h.detached = false;
  CU_ASSERT_EQUAL (dirty_map_set (w.map, &h), -1);
  CU_ASSERT_EQUAL (status_of (&w).life, DIRTY_MAP_NONE);
  CU_ASSERT_FALSE (is_good (""));
  sync_error = 0;
  close_world (&w);
}

/* ---- Random ------------------------------------------------------------- */

/* Marks and clearings in any order: the file has all that the map has, and the
 * map all that was marked and not cleared since.
 */
static void
test_random (void)
{
  static bool wanted[CHUNKS];
  uint64_t state = unit_seed ();
  unsigned missing = 0;
  struct world w;

  begin_world (&w);
  memset (wanted, true, sizeof wanted);
  for (unsigned round = 0; round < 300; round++) {
    const uint64_t first = unit_random (&state, CHUNKS);
    const uint64_t n = 1 + unit_random (&state, CHUNKS - first);

    if (unit_random (&state, 3) == 0) {
      clear (&w, first, n, unit_random (&state, 2) == 0);
      memset (wanted + first, false, n);
    }
    else {
      mark (&w, first);
      wanted[first] = true;
    }
    if (round % 50 == 0) {
      close_world (&w);
      load_world (&w);
    }
    for (uint64_t c = 0; c < CHUNKS; c++)
      missing += wanted[c] && !is_marked (&w, c);
  }
  CU_ASSERT_EQUAL (missing, 0);
  close_world (&w);
  load_world (&w);
  for (uint64_t c = 0; c < CHUNKS; c++)
    missing += wanted[c] && !is_marked (&w, c);
  CU_ASSERT_EQUAL (missing, 0);
  close_world (&w);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the file", test_file },
    { "damaged header", test_damaged_header },
    { "a header that nobody writes", test_strange_header },
    { "torn header", test_torn_header },
    { "torn block", test_torn_block },
    { "foreign", test_foreign },
    { "life", test_life },
    { "spans", test_spans },
    { "chunks of other sizes", test_other_chunks },
    { "the last span", test_last_span },
    { "no chunks", test_no_chunks },
    { "loading syncs", test_load_syncs },
    { "one sync for many", test_group },
    { "the same chunk", test_same_chunk },
    { "marked while it is cleared", test_mark_while_cleared },
    { "cleared while it is marked", test_clear_while_marked },
    { "void", test_void },
    { "a sync fails", test_sync_fails },
    { "stuck", test_stuck },
    { "the header fails", test_set_fails },
    { "random", test_random },
    CU_TEST_INFO_NULL,
  };

  return main_in_directory ("dirty-map", tests, path);
}
