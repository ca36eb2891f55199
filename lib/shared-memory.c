/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "shared-memory.h"

/* Neither side can take away from the other what it has mapped, which would be
 * a SIGBUS.
 */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

#define SLOT_BYTES (SHARED_SLOTS * sizeof (struct shared_slot))

_Static_assert(SLOT_BYTES % 4096 == 0, "data begins with a page");
_Static_assert(SHARED_BYTES_MAX % SHARED_UNIT == 0, "whole units");

static int
map (struct shared_memory *m, int fd, uint32_t bytes)
{
  char *p =
    mmap (NULL, SLOT_BYTES + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

  if (p == MAP_FAILED)
    return -1;
  m->slots = (struct shared_slot *)p;
  m->data = p + SLOT_BYTES;
  m->bytes = bytes;
  return 0;
}

void
shared_memory_unmap (struct shared_memory *m)
{
  if (m->slots != NULL)
    munmap (m->slots, SLOT_BYTES + m->bytes);
  *m = (struct shared_memory){ .slots = NULL };
}

static uint32_t
load_word (const struct shared_slot *s)
{
  return __atomic_load_n (&s->state, __ATOMIC_ACQUIRE);
}

enum shared_state
shared_memory_state (const struct shared_slot *slot)
{
  return (enum shared_state) (load_word (slot) & SHARED_STATE_MASK);
}

/* The word with the same count. */
static uint32_t
with_state (uint32_t word, enum shared_state state)
{
  return (word & ~SHARED_STATE_MASK) | state;
}

/* If the slot is as it was when 'word' was read. */
static bool
change_state (struct shared_slot *s, uint32_t word, enum shared_state to)
{
  return __atomic_compare_exchange_n (&s->state, &word, with_state (word, to),
                                      false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE);
}

/* ---- nbdmigrate's ------------------------------------------------------- */

int
shared_memory_create (struct shared_memory *m, uint32_t bytes, int *fd)
{
  *m = (struct shared_memory){ .slots = NULL };
  *fd = memfd_create ("nbdmigrate-data", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (*fd == -1)
    return -1;
  if (ftruncate (*fd, SLOT_BYTES + bytes) == 0 &&
      fcntl (*fd, F_ADD_SEALS, SEALS) == 0 && map (m, *fd, bytes) == 0)
    return 0;
  close (*fd);
  *fd = -1;
  return -1;
}

/* Whoever reads this may have seen the slot as it was before. */
static void
fill_in (struct shared_slot *s, uint64_t offset, uint32_t length,
         uint32_t place)
{
  __atomic_store_n (&s->offset, offset, __ATOMIC_RELAXED);
  __atomic_store_n (&s->length, length, __ATOMIC_RELAXED);
  __atomic_store_n (&s->place, place, __ATOMIC_RELAXED);
}

/* The count goes up by one; that it comes round is no matter, a thread would
 * have to stand still for a thousand million requests.
 */
static uint32_t
next_posted (uint32_t word)
{
  return with_state (word + SHARED_STATE_MASK + 1, SHARED_POSTED);
}

struct shared_slot *
shared_memory_post (struct shared_memory *m, uint64_t offset, uint32_t length,
                    const void *where)
{
  for (unsigned i = 0; i < SHARED_SLOTS; ++i) {
    struct shared_slot *s = &m->slots[i];
    const uint32_t word = load_word (s);

    if ((word & SHARED_STATE_MASK) != SHARED_FREE)
      continue;
    fill_in (s, offset, length, (uint32_t)((const char *)where - m->data));
    __atomic_store_n (&s->state, next_posted (word), __ATOMIC_RELEASE);
    return s;
  }
  return NULL;
}

/* If it is in that state; only the filter changes it meanwhile. */
static bool
free_if (struct shared_slot *s, enum shared_state state)
{
  const uint32_t word = load_word (s);

  return (word & SHARED_STATE_MASK) == state &&
         change_state (s, word, SHARED_FREE);
}

enum shared_state
shared_memory_collect (struct shared_slot *slot)
{
  if (free_if (slot, SHARED_POSTED))
    return SHARED_POSTED;
  return free_if (slot, SHARED_FILLED) ? SHARED_FILLED : SHARED_TAKEN;
}

/* ---- the filter's ------------------------------------------------------- */

/* The pages of a memfd are there when they are needed, but for those of huge
 * pages: there may be none left, and that is a SIGBUS.
 */
static bool
has_huge_pages (int fd)
{
  struct statfs fs;

  return fstatfs (fd, &fs) == -1 || fs.f_type == HUGETLBFS_MAGIC;
}

const char *
shared_memory_map (struct shared_memory *m, int fd)
{
  const int seals = fcntl (fd, F_GET_SEALS);
  struct stat st;

  *m = (struct shared_memory){ .slots = NULL };
  if (seals == -1 || fstat (fd, &st) == -1)
    return "it is no memfd";
  if ((seals & SEALS) != SEALS)
    return "it is not sealed against shrinking, growing and other seals";
  if (has_huge_pages (fd))
    return "it is made of huge pages";
  if (st.st_size < (off_t)(SLOT_BYTES + SHARED_UNIT) ||
      st.st_size > (off_t)(SLOT_BYTES + SHARED_BYTES_MAX) ||
      (st.st_size - SLOT_BYTES) % SHARED_UNIT != 0)
    return "its size is wrong: 8 KiB of slots, and from 64 KiB to 64 MiB of "
           "data in units of 64 KiB";
  return map (m, fd, (uint32_t)(st.st_size - SLOT_BYTES)) == -1
           ? strerror (errno)
           : NULL;
}

static bool
is_about (const struct shared_slot *s, uint64_t offset, uint32_t length)
{
  return __atomic_load_n (&s->offset, __ATOMIC_RELAXED) == offset &&
         __atomic_load_n (&s->length, __ATOMIC_RELAXED) == length;
}

/* If the slot is posted for this range. */
static bool
take_one (const struct shared_memory *m, struct shared_slot *s, uint64_t offset,
          uint32_t length, void **where)
{
  const uint32_t word = load_word (s);
  uint32_t place;

  if ((word & SHARED_STATE_MASK) != SHARED_POSTED ||
      !is_about (s, offset, length))
    return false;
  place = __atomic_load_n (&s->place, __ATOMIC_RELAXED);
  if (length > m->bytes || place > m->bytes - length ||
      !change_state (s, word, SHARED_TAKEN))
    return false;
  *where = m->data + place;
  return true;
}

struct shared_slot *
shared_memory_take (const struct shared_memory *m, uint64_t offset,
                    uint32_t length, void **where)
{
  for (unsigned i = 0; i < SHARED_SLOTS; ++i)
    if (take_one (m, &m->slots[i], offset, length, where))
      return &m->slots[i];
  return NULL;
}

void
shared_memory_ended (struct shared_slot *slot, bool filled)
{
  __atomic_store_n (
    &slot->state,
    with_state (load_word (slot), filled ? SHARED_FILLED : SHARED_POSTED),
    __ATOMIC_RELEASE);
}
