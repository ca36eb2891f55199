/* SPDX-License-Identifier: BSD-3-Clause */
/* The bitmap against a naive model of one bool a bit: exhaustively around the
 * edges of words, randomly elsewhere.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>

#include "bitmap.h"
#include "unit.h"

#define MODEL_MAX 2048 /* bits */

struct model {
  bool bit[MODEL_MAX];
  uint64_t bits;
};

static void
model_fill (struct model *m, uint64_t first, uint64_t count, bool value)
{
  for (uint64_t i = first; i < first + count; i++)
    m->bit[i] = value;
}

static uint64_t
model_count (const struct model *m, uint64_t first, uint64_t count)
{
  uint64_t n = 0;

  for (uint64_t i = first; i < first + count; i++)
    n += m->bit[i];
  return n;
}

static uint64_t
model_next (const struct model *m, uint64_t from, bool value)
{
  while (from < m->bits && m->bit[from] != value)
    from++;
  return from;
}

/* Every bit, the number of bits set, and nothing set past the end. */
static bool
same (const struct bitmap *b, const struct model *m)
{
  if (b->bits != m->bits || b->set != model_count (m, 0, m->bits))
    return false;
  for (uint64_t i = 0; i < m->bits; i++)
    if (bitmap_test (b, i) != m->bit[i])
      return false;
  return m->bits % 64 == 0 || b->words[m->bits / 64] >> m->bits % 64 == 0;
}

/* The search that is bounded. */
static bool
same_search_before (const struct bitmap *b, const struct model *m,
                    uint64_t from, uint64_t end)
{
  const uint64_t next = model_next (m, from, true);

  return bitmap_next_set_before (b, from, end) == (next < end ? next : end);
}

/* All searches from every bit and from the end. */
static bool
same_searches (const struct bitmap *b, const struct model *m)
{
  for (uint64_t i = 0; i <= m->bits; i++)
    if (bitmap_next_set (b, i) != model_next (m, i, true) ||
        bitmap_next_clear (b, i) != model_next (m, i, false) ||
        !same_search_before (b, m, i, m->bits) ||
        !same_search_before (b, m, i, i + (m->bits - i) / 2) ||
        !same_search_before (b, m, i, i))
      return false;
  return true;
}

static void
init (struct bitmap *b, struct model *m, uint64_t bits)
{
  CU_ASSERT_EQUAL_FATAL (bitmap_init (b, bits), 0);
  memset (m, 0, sizeof *m);
  m->bits = bits;
}

static void
test_empty (void)
{
  struct bitmap b, c;

  CU_ASSERT_EQUAL_FATAL (bitmap_init (&b, 0), 0);
  CU_ASSERT_EQUAL_FATAL (bitmap_init (&c, 0), 0);
  CU_ASSERT_EQUAL (b.bits, 0);
  CU_ASSERT_EQUAL (b.set, 0);
  bitmap_set (&b, 0, 0);
  bitmap_clear (&b, 0, 0);
  CU_ASSERT_EQUAL (bitmap_count (&b, 0, 0), 0);
  CU_ASSERT_EQUAL (bitmap_next_set (&b, 0), 0);
  CU_ASSERT_EQUAL (bitmap_next_clear (&b, 0), 0);
  bitmap_or (&b, &c);
  bitmap_swap (&b, &c);
  CU_ASSERT_EQUAL (b.set, 0);
  bitmap_destroy (&b);
  bitmap_destroy (&c);
}

static void
test_new_is_clear (void)
{
  struct bitmap b;
  struct model m;

  init (&b, &m, 1000);
  CU_ASSERT (same (&b, &m));
  CU_ASSERT (same_searches (&b, &m));
  bitmap_destroy (&b);
  bitmap_destroy (&b); /* again is harmless */
}

static void
test_no_memory (void)
{
  struct bitmap b;

  errno = 0;
  CU_ASSERT_EQUAL (bitmap_init (&b, UINT64_MAX), -1);
  CU_ASSERT_EQUAL (errno, ENOMEM);
  bitmap_destroy (&b); /* after a failure, too */
}

/* Each range of a bitmap of this size, set in an empty one and cleared in a
 * full one.
 */
static bool
all_ranges (uint64_t bits)
{
  struct bitmap b;
  struct model m;
  bool ok = true;

  init (&b, &m, bits);
  for (uint64_t first = 0; first <= bits; first++)
    for (uint64_t count = 0; count <= bits - first; count++) {
      bitmap_set (&b, first, count);
      model_fill (&m, first, count, true);
      ok = ok && same (&b, &m);
      bitmap_set (&b, 0, bits);
      model_fill (&m, 0, bits, true);
      ok = ok && same (&b, &m);
      bitmap_clear (&b, first, count);
      model_fill (&m, first, count, false);
      ok = ok && same (&b, &m) && bitmap_count (&b, first, count) == 0;
      bitmap_clear (&b, 0, bits);
      model_fill (&m, 0, bits, false);
    }
  bitmap_destroy (&b);
  return ok;
}

static void
test_word_edges (void)
{
  static const uint64_t sizes[] = { 1, 2, 63, 64, 65, 127, 128, 129 };

  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
    CU_ASSERT (all_ranges (sizes[i]));
}

/* One bit among clear ones and one among set ones, at each place. */
static void
test_single_bits (void)
{
  struct bitmap b;
  struct model m;
  bool ok = true;

  init (&b, &m, 193);
  for (uint64_t i = 0; i < b.bits; i++) {
    bitmap_set (&b, i, 1);
    m.bit[i] = true;
    ok = ok && same (&b, &m) && same_searches (&b, &m);
    bitmap_clear (&b, i, 1);
    m.bit[i] = false;
  }
  bitmap_set (&b, 0, b.bits);
  model_fill (&m, 0, m.bits, true);
  for (uint64_t i = 0; i < b.bits; i++) {
    bitmap_clear (&b, i, 1);
    m.bit[i] = false;
    ok = ok && same (&b, &m) && same_searches (&b, &m);
    bitmap_set (&b, i, 1);
    m.bit[i] = true;
  }
  CU_ASSERT (ok);
  bitmap_destroy (&b);
}

static void
test_twice (void)
{
  struct bitmap b;

  CU_ASSERT_EQUAL_FATAL (bitmap_init (&b, 200), 0);
  bitmap_set (&b, 10, 100);
  bitmap_set (&b, 50, 100);
  CU_ASSERT_EQUAL (b.set, 140);
  bitmap_set (&b, 10, 140);
  CU_ASSERT_EQUAL (b.set, 140);
  bitmap_clear (&b, 0, 20);
  bitmap_clear (&b, 0, 20);
  CU_ASSERT_EQUAL (b.set, 130);
  CU_ASSERT_EQUAL (bitmap_count (&b, 0, 200), 130);
  CU_ASSERT_EQUAL (bitmap_count (&b, 19, 2), 1);
  bitmap_destroy (&b);
}

static void
test_large (void)
{
  const uint64_t bits = (UINT64_C (1) << 24) + 1;
  struct bitmap b;

  CU_ASSERT_EQUAL_FATAL (bitmap_init (&b, bits), 0);
  bitmap_set (&b, 0, bits);
  CU_ASSERT_EQUAL (b.set, bits);
  CU_ASSERT_EQUAL (bitmap_next_clear (&b, 0), bits);
  bitmap_clear (&b, 1, bits - 2);
  CU_ASSERT_EQUAL (b.set, 2);
  CU_ASSERT_EQUAL (bitmap_next_set (&b, 1), bits - 1);
  CU_ASSERT_EQUAL (bitmap_count (&b, 1, bits - 1), 1);
  CU_ASSERT_EQUAL (bitmap_count (&b, 1, bits - 2), 0);
  bitmap_clear (&b, 0, bits);
  CU_ASSERT_EQUAL (b.set, 0);
  CU_ASSERT_EQUAL (bitmap_next_set (&b, 0), bits);
  CU_ASSERT_EQUAL (bitmap_next_clear (&b, bits - 1), bits - 1);
  bitmap_destroy (&b);
}

static void
test_swap (void)
{
  struct bitmap a, b;

  CU_ASSERT_EQUAL_FATAL (bitmap_init (&a, 100), 0);
  CU_ASSERT_EQUAL_FATAL (bitmap_init (&b, 300), 0);
  bitmap_set (&a, 7, 1);
  bitmap_set (&b, 200, 50);
  bitmap_swap (&a, &b);
  CU_ASSERT_EQUAL (a.bits, 300);
  CU_ASSERT_EQUAL (a.set, 50);
  CU_ASSERT_EQUAL (bitmap_next_set (&a, 0), 200);
  CU_ASSERT_EQUAL (b.bits, 100);
  CU_ASSERT_EQUAL (b.set, 1);
  CU_ASSERT_TRUE (bitmap_test (&b, 7));
  bitmap_destroy (&a);
  bitmap_destroy (&b);
}

/* ---- Bad calls --------------------------------------------------------- */

static struct bitmap victim; /* 100 bits; another: 101 bits */
static struct bitmap another;

static void
bad_test (void)
{
  (void)bitmap_test (&victim, 100);
}

static void
bad_set (void)
{
  bitmap_set (&victim, 99, 2);
}

static void
bad_clear_wraps (void)
{
  bitmap_clear (&victim, 1, UINT64_MAX);
}

static void
bad_count (void)
{
  (void)bitmap_count (&victim, 101, 0);
}

static void
bad_next (void)
{
  (void)bitmap_next_set (&victim, 101);
}

static void
bad_or (void)
{
  bitmap_or (&victim, &another);
}

static bool
aborts (void (*call) (void))
{
  int status = 0;

  fflush (NULL);

  const pid_t pid = fork ();

  if (pid == 0) {
    const int null = open ("/dev/null", O_WRONLY | O_CLOEXEC);

    dup2 (null, STDERR_FILENO);
    signal (SIGABRT, SIG_DFL);
    call ();
    _exit (0);
  }
  return pid > 0 && waitpid (pid, &status, 0) == pid && WIFSIGNALED (status) &&
         WTERMSIG (status) == SIGABRT;
}

static void
test_bad_ranges (void)
{
  CU_ASSERT_EQUAL_FATAL (bitmap_init (&victim, 100), 0);
  CU_ASSERT_EQUAL_FATAL (bitmap_init (&another, 101), 0);
  CU_ASSERT (aborts (bad_test));
  CU_ASSERT (aborts (bad_set));
  CU_ASSERT (aborts (bad_clear_wraps));
  CU_ASSERT (aborts (bad_count));
  CU_ASSERT (aborts (bad_next));
  CU_ASSERT (aborts (bad_or));
  bitmap_destroy (&victim);
  bitmap_destroy (&another);
}

/* ---- Random ------------------------------------------------------------ */

/* One random call on the bitmap and the same on the model. */
static bool
random_step (struct bitmap *b, struct model *m, struct bitmap *b2,
             struct model *m2, uint64_t *rnd)
{
  const uint64_t first = unit_random (rnd, m->bits + 1);
  /* Short ranges as often as long ones. */
  const uint64_t most =
    unit_random (rnd, 2) ? m->bits - first : (m->bits - first) / 32;
  const uint64_t count = unit_random (rnd, most + 1);

  switch (unit_random (rnd, 10)) {
  case 0:
  case 1:
  case 2:
    bitmap_set (b, first, count);
    model_fill (m, first, count, true);
    break;
  case 3:
  case 4:
  case 5:
    bitmap_clear (b, first, count);
    model_fill (m, first, count, false);
    break;
  case 8:
    bitmap_or_range (b, b2, first, count);
    for (uint64_t i = first; i < first + count; i++)
      m->bit[i] |= m2->bit[i];
    break;
  case 9:
    bitmap_and_range (b, b2, first, count);
    for (uint64_t i = first; i < first + count; i++)
      m->bit[i] &= m2->bit[i];
    break;
  case 6:
    bitmap_or (b, b2);
    for (uint64_t i = 0; i < m->bits; i++)
      m->bit[i] |= m2->bit[i];
    break;
  default: {
    const struct model tmp = *m;

    bitmap_swap (b, b2);
    *m = *m2;
    *m2 = tmp;
  }
  }
  return same (b, m) && same (b2, m2) &&
         bitmap_count (b, first, count) == model_count (m, first, count) &&
         bitmap_next_set (b, first) == model_next (m, first, true) &&
         bitmap_next_clear (b, first) == model_next (m, first, false) &&
         same_search_before (b, m, first, first + count);
}

static bool
random_bitmap (uint64_t bits, uint64_t *rnd)
{
  struct bitmap b, b2;
  struct model m, m2;
  bool ok = true;

  init (&b, &m, bits);
  init (&b2, &m2, bits);
  for (unsigned i = 0; i < 100 && ok; i++)
    ok = random_step (&b, &m, &b2, &m2, rnd);
  ok = ok && same_searches (&b, &m) && same_searches (&b2, &m2);
  bitmap_destroy (&b);
  bitmap_destroy (&b2);
  return ok;
}

static void
test_random (void)
{
  uint64_t rnd = unit_seed ();

  for (unsigned i = 0; i < 300; i++) {
    const uint64_t limit = i % 2 ? MODEL_MAX : 200;
    const uint64_t bits = unit_random (&rnd, limit + 1);
    const bool ok = random_bitmap (bits, &rnd);

    CU_ASSERT (ok);
    if (!ok) {
      printf ("(round %u, %" PRIu64 " bits) ", i, bits);
      return;
    }
  }
}

/* For test_no_memory: without this a sanitizer ends the program. */
extern const char *__asan_default_options (void);
extern const char *__tsan_default_options (void);

const char *
__asan_default_options (void)
{
  return "allocator_may_return_null=1";
}

const char *
__tsan_default_options (void)
{
  return "allocator_may_return_null=1";
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "no bits at all", test_empty },
    { "a new one is clear", test_new_is_clear },
    { "no memory", test_no_memory },
    { "all ranges around the edges of words", test_word_edges },
    { "single bits", test_single_bits },
    { "set and clear again what is", test_twice },
    { "2^24 + 1 bits", test_large },
    { "swap", test_swap },
    { "bits and ranges outside are asserted", test_bad_ranges },
    { "random calls against a model", test_random },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("bitmap", tests);
}
