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

static bool
change_state (struct shared_slot *s, uint32_t from, uint32_t to)
{
  return __atomic_compare_exchange_n (&s->state, &from, to, false,
                                      __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
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

struct shared_slot *
shared_memory_post (struct shared_memory *m, uint64_t offset, uint32_t length,
                    const void *where)
{
  for (unsigned i = 0; i < SHARED_SLOTS; ++i) {
    struct shared_slot *s = &m->slots[i];

    if (__atomic_load_n (&s->state, __ATOMIC_ACQUIRE) != SHARED_FREE)
      continue;
    s->offset = offset;
    s->length = length;
    s->place = (uint32_t)((const char *)where - m->data);
    __atomic_store_n (&s->state, SHARED_POSTED, __ATOMIC_RELEASE);
    return s;
  }
  return NULL;
}

enum shared_state
shared_memory_collect (struct shared_slot *slot)
{
  if (change_state (slot, SHARED_POSTED, SHARED_FREE))
    return SHARED_POSTED;
  return change_state (slot, SHARED_FILLED, SHARED_FREE) ? SHARED_FILLED
                                                         : SHARED_TAKEN;
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

struct shared_slot *
shared_memory_take (const struct shared_memory *m, uint64_t offset,
                    uint32_t length, void **where)
{
  for (unsigned i = 0; i < SHARED_SLOTS; ++i) {
    struct shared_slot *s = &m->slots[i];
    uint32_t place;

    if (!is_about (s, offset, length) ||
        !change_state (s, SHARED_POSTED, SHARED_TAKEN))
      continue;
    /* It may have been posted anew in between; nothing changes now. */
    place = __atomic_load_n (&s->place, __ATOMIC_RELAXED);
    if (is_about (s, offset, length) && length <= m->bytes &&
        place <= m->bytes - length) {
      *where = m->data + place;
      return s;
    }
    __atomic_store_n (&s->state, SHARED_POSTED, __ATOMIC_RELEASE);
  }
  return NULL;
}

void
shared_memory_ended (struct shared_slot *slot, bool filled)
{
  __atomic_store_n (&slot->state, filled ? SHARED_FILLED : SHARED_POSTED,
                    __ATOMIC_RELEASE);
}
