/* SPDX-License-Identifier: BSD-3-Clause */
/* Three copies of the marks, as words of 64:
 *
 *   wanted    what the file is to say
 *   written   what it says, if no power fails
 *   durable   marks that it keeps whatever happens; read without the lock
 *
 * A mark is set in wanted; a round takes its block to written and the file,
 * syncs, and takes it to durable.  A mark that is cleared goes from wanted and
 * durable first, and from written when the file is written; who wants it before
 * that has it, for the file keeps it.  Between those two things durable is what
 * was written, and a part of what is wanted.
 *
 * Who writes to the file has 'busy': a round, what is cleared, or a change of
 * the header.  So no block is written by two at once, no older content lands
 * over newer, and no round makes durable what was cleared while it ran.
 *
 * Why no mark is missed that is being cleared.  Marks are cleared under the
 * lock of the tracker's list, of chunks without a request in it.  A write that
 * entered before is in the list, so its chunks are not cleared; one that enters
 * later looks at 'durable' after it has taken that lock, and sees the mark
 * gone.
 *
 * Why nobody slips by while the map is made void.  'durable' is not touched
 * before the file is void.  Who needs a mark until then waits for 'busy'; after
 * that all of it is set.
 */

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bitmap.h"
#include "cleanup.h"
#include "dirty-map.h"

#define WORD_BITS 64
#define ONES UINT64_MAX

struct dirty_map {
  /* Constant. */
  struct dirty_map_file *file;
  uint64_t disk_bytes, chunks, words, blocks;
  unsigned shift;       /* of a chunk */
  unsigned span_chunks; /* 1 to 64, a power of two */
  dirty_map_failed *failed;
  void *opaque;

  _Atomic uint64_t *durable; /* written under the lock */

  pthread_mutex_t lock; /* for all that follows; not held over I/O */
  pthread_cond_t changed;
  enum dirty_map_life life;
  bool busy;
  bool exact; /* of the clearing that is under way */
  uint64_t *wanted, *written;
  bool *marked;               /* blocks that a round has to write */
  bool *cleared;              /* blocks with marks that were cleared */
  bool *round;                /* blocks of the round that is under way */
  uint64_t started, finished; /* rounds */
  uint64_t first_touches, syncs, cleared_chunks;
};

/* ---- Words and chunks --------------------------------------------------- */

/* The bits of word w that are chunks. */
static uint64_t
real_mask (const struct dirty_map *m, uint64_t w)
{
  return bitmap_mask (w, 0, m->chunks);
}

/* The chunks that a write touches. */
struct touched {
  uint64_t first, end;
};

static struct touched
touched_by (const struct dirty_map *m, uint64_t offset, uint64_t length)
{
  const uint64_t first = offset >> m->shift;

  if (length == 0)
    return (struct touched){ first, first };
  return (struct touched){ first, ((offset + length - 1) >> m->shift) + 1 };
}

/* The same, and all of the spans that they are in. */
static struct touched
widen (const struct dirty_map *m, struct touched t)
{
  const uint64_t inside = m->span_chunks - 1;

  t.first &= ~inside;
  t.end = (t.end + inside) & ~inside;
  if (t.end > m->chunks)
    t.end = m->chunks;
  return t;
}

static bool
is_durable (const struct dirty_map *m, struct touched t)
{
  for (uint64_t w = t.first / WORD_BITS; w * WORD_BITS < t.end; w++) {
    const uint64_t mask = bitmap_mask (w, t.first, t.end);

    if ((atomic_load_explicit (&m->durable[w], memory_order_acquire) & mask) !=
        mask)
      return false;
  }
  return true;
}

/* ---- Life and memory ---------------------------------------------------- */

struct dirty_map *
dirty_map_new (struct dirty_map_file *file, uint64_t disk_bytes,
               uint64_t chunk_bytes, dirty_map_failed *failed, void *opaque)
{
  struct dirty_map *m = calloc (1, sizeof *m);

  if (m == NULL)
    return NULL;
  m->file = file;
  m->disk_bytes = disk_bytes;
  m->shift = __builtin_ctzll (chunk_bytes);
  m->chunks =
    (disk_bytes >> m->shift) + ((disk_bytes & (chunk_bytes - 1)) != 0);
  m->words = dirty_map_words (disk_bytes, chunk_bytes);
  m->blocks = dirty_map_blocks (disk_bytes, chunk_bytes);
  m->span_chunks = chunk_bytes >= DIRTY_MAP_SPAN ? 1
                   : DIRTY_MAP_SPAN / chunk_bytes > WORD_BITS
                     ? WORD_BITS
                     : DIRTY_MAP_SPAN / chunk_bytes;
  m->failed = failed;
  m->opaque = opaque;
  pthread_mutex_init (&m->lock, NULL);
  pthread_cond_init (&m->changed, NULL);
  m->durable = calloc (m->words + 1, sizeof *m->durable);
  m->wanted = calloc (m->words + 1, sizeof *m->wanted);
  m->written = calloc (m->words + 1, sizeof *m->written);
  m->marked = calloc (m->blocks + 1, sizeof *m->marked);
  m->cleared = calloc (m->blocks + 1, sizeof *m->cleared);
  m->round = calloc (m->blocks + 1, sizeof *m->round);
  if (m->durable == NULL || m->wanted == NULL || m->written == NULL ||
      m->marked == NULL || m->cleared == NULL || m->round == NULL) {
    dirty_map_free (m);
    return NULL;
  }
  for (uint64_t w = 0; w < m->words; w++)
    atomic_init (&m->durable[w], ONES); /* nobody waits */
  return m;
}

void
dirty_map_free (struct dirty_map *m)
{
  if (m == NULL)
    return;
  assert (!m->busy);
  free (m->durable);
  free (m->wanted);
  free (m->written);
  free (m->marked);
  free (m->cleared);
  free (m->round);
  pthread_cond_destroy (&m->changed);
  pthread_mutex_destroy (&m->lock);
  free (m);
}

bool
dirty_map_fits (const struct dirty_map *m, uint64_t chunk_bytes)
{
  return UINT64_C (1) << m->shift == chunk_bytes;
}

/* ---- The lock must be held ---------------------------------------------- */

static void
take_busy (struct dirty_map *m)
{
  while (m->busy)
    pthread_cond_wait (&m->changed, &m->lock);
  m->busy = true;
}

static void
leave_busy (struct dirty_map *m)
{
  assert (m->busy);
  m->busy = false;
  pthread_cond_broadcast (&m->changed);
}

/* From here on no mark is missed by anybody. */
static void
let_all_pass (struct dirty_map *m, enum dirty_map_life life)
{
  m->life = life;
  memset (m->marked, 0, m->blocks * sizeof *m->marked);
  memset (m->cleared, 0, m->blocks * sizeof *m->cleared);
  for (uint64_t w = 0; w < m->words; w++)
    atomic_store_explicit (&m->durable[w], ONES, memory_order_release);
}

/* What the file says becomes what it keeps. */
static void
publish (struct dirty_map *m, uint64_t block)
{
  const uint64_t first = block * DIRTY_MAP_BLOCK_WORDS;
  const uint64_t end = first + DIRTY_MAP_BLOCK_WORDS;

  for (uint64_t w = first; w < end && w < m->words; w++)
    atomic_store_explicit (&m->durable[w], m->written[w], memory_order_release);
}

/* The words of a block as they are to be in the file. */
static void
copy_block (const struct dirty_map *m, uint64_t block,
            uint64_t words[DIRTY_MAP_BLOCK_WORDS])
{
  const uint64_t first = block * DIRTY_MAP_BLOCK_WORDS;
  const uint64_t n = m->words - first < DIRTY_MAP_BLOCK_WORDS
                       ? m->words - first
                       : DIRTY_MAP_BLOCK_WORDS;

  memset (words, 0, DIRTY_MAP_BLOCK_WORDS * sizeof *words);
  memcpy (words, &m->written[first], n * sizeof *words);
}

/* The lock is dropped meanwhile, as for the functions below. */
static int
write_block (struct dirty_map *m, uint64_t block)
{
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];
  int r;

  copy_block (m, block, words);
  pthread_mutex_unlock (&m->lock);
  r = dirty_map_file_write (m->file, block, words);
  pthread_mutex_lock (&m->lock);
  return r;
}

/* R14: all marks that are wanted by now. */
static int
write_marked (struct dirty_map *m)
{
  for (uint64_t b = 0; b < m->blocks; b++) {
    const uint64_t first = b * DIRTY_MAP_BLOCK_WORDS;

    m->round[b] = m->marked[b];
    if (!m->marked[b])
      continue;
    m->marked[b] = m->cleared[b] = false;
    for (uint64_t w = first; w < first + DIRTY_MAP_BLOCK_WORDS && w < m->words;
         w++)
      m->written[w] = m->wanted[w];
    if (write_block (m, b) == -1)
      return -1;
  }
  return 0;
}

static int
sync_file (struct dirty_map *m)
{
  int r;

  pthread_mutex_unlock (&m->lock);
#ifdef PLANT_BUG_mark_unsynced
  r = 0;
#else
  r = dirty_map_file_sync (m->file);
#endif
  pthread_mutex_lock (&m->lock);
  return r;
}

/* Whoever is busy makes the file void, and lets all pass. */
static int
make_void (struct dirty_map *m)
{
  int r, error;

#ifdef PLANT_BUG_pass_while_voided
  let_all_pass (m, DIRTY_MAP_NONE);
#endif
  pthread_mutex_unlock (&m->lock);
  r = dirty_map_file_void (m->file);
  error = errno;
  pthread_mutex_lock (&m->lock);
  let_all_pass (m, r == 0 ? DIRTY_MAP_NONE : DIRTY_MAP_STUCK);
  errno = error;
  return r;
}

/* ---- Guests' writes ----------------------------------------------------- */

/* One round for all who wait; the caller is busy.  A file that takes no mark is
 * made void, since what it says is true no longer; then the guests go on (R11).
 */
static void
run_round (struct dirty_map *m)
{
  const uint64_t number = ++m->started;
  bool voided;
  int error;

  m->syncs++;
  if (write_marked (m) == 0 && sync_file (m) == 0) {
    for (uint64_t b = 0; b < m->blocks; b++)
      if (m->round[b])
        publish (m, b);
    m->finished = number;
    leave_busy (m);
    return;
  }
  error = errno;
  voided = make_void (m) == 0;
  m->finished = number;
  leave_busy (m);
  pthread_mutex_unlock (&m->lock);
  m->failed (m->opaque, error, voided);
  pthread_mutex_lock (&m->lock);
}

/* Want marks, and say which round makes them durable. */
static uint64_t
want (struct dirty_map *m, struct touched t)
{
  uint64_t round = m->started;

  for (uint64_t w = t.first / WORD_BITS; w * WORD_BITS < t.end; w++) {
    const uint64_t mask = bitmap_mask (w, t.first, t.end);

    m->wanted[w] |= mask;
    if ((m->written[w] & mask) == mask)
      continue; /* of the round that is under way, or not cleared yet */
    m->marked[w / DIRTY_MAP_BLOCK_WORDS] = true;
    round = m->started + 1;
  }
  return round;
}

static void
mark_and_wait (struct dirty_map *m, struct touched t)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  uint64_t round;

  if (m->life != DIRTY_MAP_LIVE || is_durable (m, t))
    return;
  m->first_touches++;
  round = want (m, widen (m, t));
  while (m->life == DIRTY_MAP_LIVE && m->finished < round) {
    if (m->busy)
      pthread_cond_wait (&m->changed, &m->lock);
    else {
      m->busy = true;
      run_round (m);
    }
  }
}

void
dirty_map_mark (struct dirty_map *m, uint64_t offset, uint64_t length)
{
  const struct touched t = touched_by (m, offset, length);

  assert (t.end <= m->chunks);
  if (!is_durable (m, t))
    mark_and_wait (m, t);
}

/* ---- Its life ----------------------------------------------------------- */

int
dirty_map_begin (struct dirty_map *m, const struct dirty_map_header *header,
                 char **why)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r, error;

  take_busy (m);
  assert (m->life != DIRTY_MAP_LIVE);
  pthread_mutex_unlock (&m->lock);
  r = dirty_map_file_make (m->file, header, why);
  error = errno;
  pthread_mutex_lock (&m->lock);
  for (uint64_t w = 0; w < m->words; w++) {
    m->wanted[w] = m->written[w] = real_mask (m, w);
    atomic_store (&m->durable[w], ONES);
  }
  m->life = r == 0 ? DIRTY_MAP_LIVE : DIRTY_MAP_NONE;
  leave_busy (m);
  errno = error;
  return r;
}

/* The marks of one block; all of them if it is not whole. */
static bool
load_block (struct dirty_map *m, uint64_t block)
{
  const uint64_t first = block * DIRTY_MAP_BLOCK_WORDS;
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];
  const bool whole = dirty_map_file_read (m->file, block, words) == 0;

  for (uint64_t w = first; w < first + DIRTY_MAP_BLOCK_WORDS && w < m->words;
       w++)
    m->wanted[w] = (whole ? words[w - first] : ONES) & real_mask (m, w);
  return whole;
}

/* R14: a mark may have been written by a process that was killed before the
 * sync, and a power cut could take it yet.  What is damaged is written anew.
 */
static int
make_loaded_durable (struct dirty_map *m, const struct dirty_map_header *header)
{
#ifdef PLANT_BUG_load_unsynced
  return 0;
#endif
  if (write_marked (m) == -1 || sync_file (m) == -1)
    return -1;
  return dirty_map_file_set (m->file, header);
}

int
dirty_map_load (struct dirty_map *m, const struct dirty_map_header *header,
                uint64_t *damaged)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  take_busy (m);
  *damaged = 0;
  for (uint64_t b = 0; b < m->blocks; b++) {
    const uint64_t first = b * DIRTY_MAP_BLOCK_WORDS;

    m->marked[b] = !load_block (m, b);
    *damaged += m->marked[b];
    for (uint64_t w = first; w < first + DIRTY_MAP_BLOCK_WORDS && w < m->words;
         w++)
      m->written[w] = m->wanted[w];
  }
  if (make_loaded_durable (m, header) == -1) {
    leave_busy (m);
    return -1;
  }
  for (uint64_t b = 0; b < m->blocks; b++)
    publish (m, b);
  m->life = DIRTY_MAP_LIVE;
  leave_busy (m);
  return 0;
}

const uint64_t *
dirty_map_marks (const struct dirty_map *m)
{
  return m->wanted;
}

void
dirty_map_copy_marks (struct dirty_map *m, uint64_t word, size_t n,
                      uint64_t *marks)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  assert (word + n <= m->words);
  memcpy (marks, &m->wanted[word], n * sizeof *marks);
}

int
dirty_map_set (struct dirty_map *m, const struct dirty_map_header *header)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = 0, error;

  take_busy (m);
  if (m->life == DIRTY_MAP_LIVE) {
    pthread_mutex_unlock (&m->lock);
    r = dirty_map_file_set (m->file, header);
    pthread_mutex_lock (&m->lock);
    error = errno;
    if (r == -1)
      make_void (m);
    errno = error;
  }
  leave_busy (m);
  return r;
}

int
dirty_map_void (struct dirty_map *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = 0;

  take_busy (m);
  if (m->life != DIRTY_MAP_NONE)
    r = make_void (m);
  leave_busy (m);
  return r;
}

/* ---- Clearing ----------------------------------------------------------- */

bool
dirty_map_clear_begin (struct dirty_map *m, bool exact)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  take_busy (m);
  if (m->life == DIRTY_MAP_LIVE) {
    m->exact = exact;
    return true;
  }
  leave_busy (m);
  return false;
}

/* Of these bits those whose spans are set as a whole. */
static uint64_t
whole_spans (const struct dirty_map *m, uint64_t bits)
{
  const unsigned n = m->span_chunks;
  const uint64_t span = n == WORD_BITS ? ONES : (UINT64_C (1) << n) - 1;
  uint64_t whole = 0;

  for (unsigned i = 0; i < WORD_BITS; i += n)
    if ((bits >> i & span) == span)
      whole |= span << i;
  return whole;
}

void
dirty_map_clear (struct dirty_map *m, uint64_t word, const uint64_t *bits,
                 size_t n)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  for (uint64_t w = word; w < word + n && w < m->words; w++) {
    const uint64_t clean =
      m->exact ? bits[w - word] : whole_spans (m, bits[w - word]);
    const uint64_t gone = clean & m->written[w] & m->wanted[w];

    if (gone == 0)
      continue;
    m->cleared_chunks += __builtin_popcountll (gone);
    m->wanted[w] &= ~gone;
    atomic_store_explicit (&m->durable[w], m->durable[w] & ~gone,
                           memory_order_release);
    m->cleared[w / DIRTY_MAP_BLOCK_WORDS] = true;
  }
}

/* Marks that a round has yet to write stay out of it: they would look written
 * to others, and not be durable.
 */
static void
forget_cleared (struct dirty_map *m, uint64_t block)
{
  const uint64_t first = block * DIRTY_MAP_BLOCK_WORDS;

  for (uint64_t w = first; w < first + DIRTY_MAP_BLOCK_WORDS && w < m->words;
       w++)
    m->written[w] &= m->wanted[w];
  publish (m, block);
}

void
dirty_map_clear_end (struct dirty_map *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  for (uint64_t b = 0; b < m->blocks; b++) {
    if (!m->cleared[b])
      continue;
    m->cleared[b] = false;
    forget_cleared (m, b);
    /* What cannot be written stays marked there; but a part of it may have
     * been, and the digest is wrong then: all of the block counts as marked.
     */
    write_block (m, b);
  }
  leave_busy (m);
}

/* ---- Looking ------------------------------------------------------------ */

enum dirty_map_life
dirty_map_life (struct dirty_map *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  return m->life;
}

static uint64_t
marked_bytes (const struct dirty_map *m)
{
  const uint64_t last = m->chunks - 1;
  uint64_t n = 0;

  for (uint64_t w = 0; w < m->words; w++)
    n += __builtin_popcountll (m->wanted[w]);
  n <<= m->shift;
  if (m->chunks > 0 && (m->wanted[last / WORD_BITS] >> last % WORD_BITS & 1))
    n -= (m->chunks << m->shift) - m->disk_bytes;
  return n;
}

void
dirty_map_get_status (struct dirty_map *m, struct dirty_map_status *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  *s = (struct dirty_map_status){
    .life = m->life,
    .marked_bytes = m->life == DIRTY_MAP_LIVE ? marked_bytes (m) : 0,
    .first_touches = m->first_touches,
    .syncs = m->syncs,
    .cleared = m->cleared_chunks,
  };
}
