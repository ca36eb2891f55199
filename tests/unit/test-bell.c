/* SPDX-License-Identifier: BSD-3-Clause */
/* No thread that waits for the bell misses that it was meant, also where more
 * wait than there are bits, and a wait that is limited ends.
 */

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "remote/bell.h"
#include "unit.h"

#define THREADS 40
#define ROUNDS 100

struct waiter {
  pthread_t thread;
  struct bell *bell;
  uint32_t bit;
  unsigned answers; /* atomic; those it has been given, by one thread */
  unsigned taken;   /* atomic */
};

/* Take one answer after the other; a wait without a limit that is missed would
 * never end.
 */
static void *
take_answers (void *opaque)
{
  struct waiter *w = opaque;

  for (unsigned n = 1; n <= ROUNDS; ++n) {
    uint32_t look = bell_look (w->bell);

    while (__atomic_load_n (&w->answers, __ATOMIC_ACQUIRE) < n) {
      bell_wait (w->bell, look, w->bit, -1);
      look = bell_look (w->bell);
    }
    __atomic_store_n (&w->taken, n, __ATOMIC_RELEASE);
  }
  return NULL;
}

/* What they were given.  One that was not woken is not helped by a later ring.
 */
static void
await_all (const struct waiter *w)
{
  for (unsigned i = 0; i < THREADS; ++i) {
    while (__atomic_load_n (&w[i].taken, __ATOMIC_ACQUIRE) < w[i].answers)
      sched_yield ();
  }
}

/* Some of them get an answer, and the bell is rung once for all of these. */
static unsigned
answer_some (struct bell *bell, struct waiter *w, unsigned short *seed)
{
  uint32_t bits = 0;
  unsigned n = 0;

  for (unsigned i = 0; i < THREADS; ++i) {
    if (w[i].answers == ROUNDS || nrand48 (seed) % 3 != 0)
      continue;
    __atomic_fetch_add (&w[i].answers, 1, __ATOMIC_RELEASE);
    bits |= w[i].bit;
    ++n;
  }
  bell_ring (bell, bits);
  return n;
}

static void
test_nobody_is_missed (void)
{
  unsigned short seed[3] = { 1, 2, 3 }; /* the schedule is what varies */
  struct waiter w[THREADS] = { 0 };
  struct bell bell = { 0 };
  unsigned given = 0;

  for (unsigned i = 0; i < THREADS; ++i) {
    w[i].bell = &bell;
    w[i].bit = UINT32_C (1) << (i % 32);
    CU_ASSERT_EQUAL_FATAL (
      pthread_create (&w[i].thread, NULL, take_answers, &w[i]), 0);
  }
  while (given < THREADS * ROUNDS) {
    given += answer_some (&bell, w, seed);
    await_all (w);
  }
  for (unsigned i = 0; i < THREADS; ++i)
    pthread_join (w[i].thread, NULL);
}

static void
test_limits (void)
{
  struct bell bell = { 0 };
  uint32_t look = bell_look (&bell);

  CU_ASSERT_FALSE (bell_wait (&bell, look, 1, 1));
  bell_ring (&bell, 2);
  /* It was rung since: look first, whoever was meant. */
  CU_ASSERT_TRUE (bell_wait (&bell, look, 1, -1));
  look = bell_look (&bell);
  CU_ASSERT_FALSE (bell_wait (&bell, look, 2, 1));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "nobody is missed", test_nobody_is_missed },
    { "limits", test_limits },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("bell", tests);
}
