/* SPDX-License-Identifier: BSD-3-Clause */
/* Slots: who may write where, and until when. */

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared-memory.h"
#include "unit.h"

static struct shared_memory ours, theirs; /* nbdmigrate's, the filter's */

static void
open_both (void)
{
  int fd;

  CU_ASSERT_EQUAL_FATAL (shared_memory_create (&ours, SHARED_UNIT, &fd), 0);
  CU_ASSERT_PTR_NULL_FATAL (shared_memory_map (&theirs, fd));
  CU_ASSERT_EQUAL (ftruncate (fd, 0), -1); /* which would be a SIGBUS for us */
  close (fd);
}

static void
close_both (void)
{
  shared_memory_unmap (&ours);
  shared_memory_unmap (&theirs);
}

static void
test_read (void)
{
  struct shared_slot *posted, *taken;
  void *where;

  open_both ();
  posted = shared_memory_post (&ours, 4096, 512, ours.data + 1024);
  CU_ASSERT_PTR_NOT_NULL_FATAL (posted);
  /* Another range, in whatever way. */
  CU_ASSERT_PTR_NULL (shared_memory_take (&theirs, 4096, 511, &where));
  CU_ASSERT_PTR_NULL (shared_memory_take (&theirs, 0, 512, &where));

  taken = shared_memory_take (&theirs, 4096, 512, &where);
  CU_ASSERT_PTR_NOT_NULL_FATAL (taken);
  CU_ASSERT_PTR_EQUAL (where, theirs.data + 1024);
  CU_ASSERT_PTR_NULL (shared_memory_take (&theirs, 4096, 512, &where));
  memset (where, 'x', 512);
  shared_memory_ended (taken, true);

  CU_ASSERT_EQUAL (shared_memory_collect (posted), SHARED_FILLED);
  CU_ASSERT_EQUAL (ours.data[1024 + 511], 'x');
  CU_ASSERT_EQUAL (ours.data[1024 + 512], 0);
  CU_ASSERT_EQUAL (shared_memory_state (posted), SHARED_FREE);
  close_both ();
}

static void
test_not_filled (void)
{
  struct shared_slot *posted;
  void *where;

  open_both ();
  posted = shared_memory_post (&ours, 0, 512, ours.data);
  CU_ASSERT_EQUAL (shared_memory_collect (posted), SHARED_POSTED);
  CU_ASSERT_PTR_NULL (shared_memory_take (&theirs, 0, 512, &where));

  posted = shared_memory_post (&ours, 0, 512, ours.data);
  CU_ASSERT_PTR_NOT_NULL (shared_memory_take (&theirs, 0, 512, &where));
  CU_ASSERT_EQUAL (shared_memory_collect (posted), SHARED_TAKEN);
  /* So nothing else comes to this place. */
  CU_ASSERT_PTR_NOT_EQUAL (shared_memory_post (&ours, 0, 512, ours.data),
                           posted);
  close_both ();
}

static void
test_all_in_use (void)
{
  struct shared_slot *slots[SHARED_SLOTS];
  void *where;

  open_both ();
  for (unsigned i = 0; i < SHARED_SLOTS; ++i) {
    slots[i] = shared_memory_post (&ours, i * 128, 128, ours.data + i * 128);
    CU_ASSERT_PTR_NOT_NULL_FATAL (slots[i]);
  }
  CU_ASSERT_PTR_NULL (shared_memory_post (&ours, 0, 1, ours.data));
  CU_ASSERT_PTR_EQUAL (shared_memory_take (&theirs, 128, 128, &where),
                       theirs.slots + (slots[1] - ours.slots));
  CU_ASSERT_EQUAL (shared_memory_collect (slots[0]), SHARED_POSTED);
  CU_ASSERT_PTR_NOT_NULL (shared_memory_post (&ours, 0, 1, ours.data));
  close_both ();
}

static void
test_could_not_be_read (void)
{
  struct shared_slot *posted, *taken;
  void *where;

  open_both ();
  posted = shared_memory_post (&ours, 0, 512, ours.data);
  taken = shared_memory_take (&theirs, 0, 512, &where);
  CU_ASSERT_PTR_NOT_NULL_FATAL (taken);
  shared_memory_ended (taken, false);
  /* Once more. */
  CU_ASSERT_PTR_EQUAL (shared_memory_take (&theirs, 0, 512, &where), taken);
  shared_memory_ended (taken, false);
  CU_ASSERT_EQUAL (shared_memory_collect (posted), SHARED_POSTED);
  close_both ();
}

#define ROUNDS 1000000
static bool over; /* atomic */

/* Asks for the first range all the time, and never reads it. */
static void *
ask_for_first (void *arg)
{
  struct shared_slot *taken;
  void *where;

  while (!__atomic_load_n (&over, __ATOMIC_ACQUIRE)) {
    taken = shared_memory_take (&theirs, 0, 512, &where);
    if (taken != NULL)
      shared_memory_ended (taken, false);
  }
  return arg;
}

/* A slot that is used again is nobody's but those who ask for its range now,
 * whatever others have seen in it before.
 */
static void
test_used_again (void)
{
  struct shared_slot *posted, *taken;
  unsigned missed = 0;
  pthread_t other;
  void *where;

  open_both ();
  over = false;
  CU_ASSERT_EQUAL_FATAL (pthread_create (&other, NULL, ask_for_first, NULL), 0);
  for (unsigned i = 0; i < ROUNDS; ++i) {
    posted = shared_memory_post (&ours, 0, 512, ours.data);
    while (shared_memory_collect (posted) == SHARED_TAKEN)
      ;
    posted = shared_memory_post (&ours, 4096, 512, ours.data);
    taken = shared_memory_take (&theirs, 4096, 512, &where);
    missed += taken == NULL;
    if (taken != NULL)
      shared_memory_ended (taken, true);
    while (shared_memory_collect (posted) == SHARED_TAKEN)
      ;
  }
  __atomic_store_n (&over, true, __ATOMIC_RELEASE);
  pthread_join (other, NULL);
  CU_ASSERT_EQUAL (missed, 0);
  close_both ();
}

/* What the other side writes may be anything. */
static void
test_hostile (void)
{
  static const struct {
    uint32_t place, length;
  } bad[] = {
    { SHARED_UNIT, 1 },        { SHARED_UNIT - 511, 512 }, { UINT32_MAX, 512 },
    { UINT32_MAX - 511, 512 }, { 0, SHARED_UNIT + 1 },     { 1, SHARED_UNIT },
    { 0, UINT32_MAX },
  };
  struct shared_slot *s;
  void *where;

  open_both ();
  s = shared_memory_post (&ours, 0, 512, ours.data);
  for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    s->place = bad[i].place;
    s->length = bad[i].length;
    CU_ASSERT_PTR_NULL (shared_memory_take (&theirs, 0, s->length, &where));
    CU_ASSERT_EQUAL (shared_memory_state (s), SHARED_POSTED);
  }
  s->place = 0;
  s->length = SHARED_UNIT;
  CU_ASSERT_PTR_NOT_NULL (shared_memory_take (&theirs, 0, s->length, &where));
  close_both ();
}

/* A memfd of this size with these seals and flags. */
static bool
is_refused (off_t size, int seals, unsigned flags)
{
  const int fd = memfd_create ("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
  struct shared_memory m;
  const char *why;

  if (fd == -1 && flags != 0)
    return true; /* there are no huge pages here */
  CU_ASSERT_EQUAL (ftruncate (fd, size), 0);
  CU_ASSERT_EQUAL (fcntl (fd, F_ADD_SEALS, seals), 0);
  why = shared_memory_map (&m, fd);
  close (fd);
  CU_ASSERT_EQUAL (why == NULL, m.slots != NULL);
  shared_memory_unmap (&m);
  return why != NULL;
}

static void
test_refused (void)
{
  const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  const off_t slots = SHARED_SLOTS * sizeof (struct shared_slot);
  struct shared_memory m;
  int v[2];

  CU_ASSERT_FALSE (is_refused (slots + SHARED_UNIT, seals, 0));
  CU_ASSERT_FALSE (is_refused (slots + SHARED_BYTES_MAX, seals, 0));
  CU_ASSERT (is_refused (slots + SHARED_UNIT, 0, 0));
  CU_ASSERT (is_refused (slots + SHARED_UNIT, seals & ~F_SEAL_SHRINK, 0));
  CU_ASSERT (is_refused (slots + SHARED_UNIT, seals & ~F_SEAL_GROW, 0));
  CU_ASSERT (is_refused (slots + SHARED_UNIT, seals & ~F_SEAL_SEAL, 0));
  CU_ASSERT (is_refused (slots + SHARED_UNIT, seals | F_SEAL_WRITE, 0));
  CU_ASSERT (is_refused (slots + SHARED_UNIT - 1, seals, 0));
  CU_ASSERT (is_refused (slots + SHARED_BYTES_MAX + SHARED_UNIT, seals, 0));
  CU_ASSERT (is_refused (slots, seals, 0));
  CU_ASSERT (is_refused (0, seals, 0));
  CU_ASSERT (is_refused (SHARED_BYTES_MAX, seals, MFD_HUGETLB));

  CU_ASSERT_EQUAL_FATAL (pipe (v), 0);
  CU_ASSERT_PTR_NOT_NULL (shared_memory_map (&m, v[0]));
  close (v[0]);
  close (v[1]);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a range is read to its place", test_read },
    { "nobody has read it, or somebody still may", test_not_filled },
    { "what could not be read is not filled", test_could_not_be_read },
    { "all slots in use", test_all_in_use },
    { "a slot that is used again", test_used_again },
    { "a place outside is refused", test_hostile },
    { "memory that could be taken away is refused", test_refused },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("shared memory", tests);
}
