/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads that run one at a time, as they are told, and memory of their own:
 * what the relay calls instead of pthreads and malloc (the linker's --wrap).
 *
 * Each has its stack and its heap at fixed places.  What is below the stack's
 * pointer, or was freed, has no bearing on anything, and is not kept.
 */

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "remote/bell.h"
#include "world.h"

#define MAIN 0

static struct {
  _Alignas(64) uint8_t stacks[THREADS][STACK_BYTES];
  _Alignas(64) uint8_t heaps[THREADS][HEAP_BYTES];
} arena;

struct world world;
const char *violation;

static ucontext_t home; /* of who explores */
static bool inside;     /* a thread runs */
static bool happens;    /* or something happens to them all */

static struct thread *
self (void)
{
  return &world.threads[world.running];
}

/* ---- Switching ---------------------------------------------------------- */

static __attribute__ ((noinline)) void
leave (void)
{
  inside = false;
  swapcontext (&self ()->context, &home);
}

static void
enter (void)
{
  struct thread *t = self ();

  t->start (t->opaque);
  t->state = THREAD_ENDED;
  leave ();
}

static void
make (struct thread *t, uint8_t *stack)
{
  getcontext (&t->context);
  t->context.uc_stack.ss_sp = stack;
  t->context.uc_stack.ss_size = STACK_BYTES;
  t->context.uc_link = NULL;
  makecontext (&t->context, enter, 0);
}

unsigned
thread_begin (void *(*start) (void *opaque), void *opaque)
{
  unsigned i = 0;

  while (world.threads[i].state != THREAD_NONE &&
         world.threads[i].state != THREAD_ENDED)
    if (++i == THREADS)
      abort ();
  world.threads[i].state = THREAD_READY;
  world.threads[i].start = start;
  world.threads[i].opaque = opaque;
  make (&world.threads[i], arena.stacks[i]);
  return i;
}

bool
thread_can_run (unsigned i)
{
  const struct thread *t = &world.threads[i];

  switch (t->state) {
  case THREAD_READY:
    return true;
  case THREAD_JOINS:
    return world.threads[t->other].state == THREAD_ENDED;
  case THREAD_AWAITS:
    return t->condition ();
  default:
    return false;
  }
}

void
thread_run (unsigned i)
{
  world.running = i;
  world.threads[i].state = THREAD_READY;
  inside = true;
  swapcontext (&home, &world.threads[i].context);
}

void
thread_await (bool (*condition) (void))
{
  self ()->condition = condition;
  self ()->state = THREAD_AWAITS;
  leave ();
}

unsigned
thread_choose (unsigned n)
{
  self ()->choices = n;
  self ()->state = THREAD_CHOOSES;
  leave ();
  return self ()->chosen;
}

void
threads_happens (bool now)
{
  happens = now;
}

static void
sleep_on (const void *what, int64_t until_ms)
{
  self ()->on = what;
  self ()->until_ms = until_ms;
  self ()->state = THREAD_SLEEPS;
  leave ();
}

static void
wake (const void *what)
{
  for (unsigned i = 0; i < THREADS; i++) {
    struct thread *t = &world.threads[i];

    if (t->state == THREAD_SLEEPS && t->on == what)
      t->state = THREAD_READY;
  }
}

void
threads_wake_late (void)
{
  for (unsigned i = 0; i < THREADS; i++) {
    struct thread *t = &world.threads[i];

    if (t->state == THREAD_SLEEPS && t->until_ms <= world.clock_ms)
      t->state = THREAD_READY;
  }
}

void
threads_kill_others (void)
{
  for (unsigned i = 0; i < THREADS; i++)
    if (i != world.running) {
      memset (arena.heaps[i], 0, world.threads[i].heap_used);
      world.threads[i] = (struct thread){ .state = THREAD_NONE };
    }
}

/* ---- Memory ------------------------------------------------------------- */

/* A heap is a row of blocks, each after its size. */
struct block {
  size_t bytes; /* with this */
  size_t used;
};

extern void *__wrap_malloc (size_t bytes);
extern void *__wrap_calloc (size_t n, size_t bytes);
extern void *__wrap_realloc (void *old, size_t bytes);
extern void __wrap_free (void *p);
extern char *__wrap_strdup (const char *text);
extern int __wrap_vasprintf (char **out, const char *format, va_list args);
extern int __wrap_asprintf (char **out, const char *format, ...);
extern void *__wrap_mmap (void *address, size_t length, int protection,
                          int flags, int fd, off_t offset);
extern int __wrap_munmap (void *address, size_t length);
extern int __wrap_madvise (void *address, size_t length, int advice);
extern void *__real_malloc (size_t bytes);
extern void *__real_calloc (size_t n, size_t bytes);
extern void __real_free (void *p);

static struct block *
find_free (uint8_t *heap, size_t *used, size_t bytes)
{
  struct block *b;

  for (size_t at = 0; at < *used; at += b->bytes) {
    b = (struct block *)(heap + at);
    if (!b->used && b->bytes == bytes)
      return b;
  }
  if (*used + bytes > HEAP_BYTES)
    return NULL;
  b = (struct block *)(heap + *used);
  b->bytes = bytes;
  *used += bytes;
  return b;
}

/* All zero: what is in there must not depend on what was there. */
void *
__wrap_malloc (size_t bytes)
{
  const size_t whole = (sizeof (struct block) + bytes + 15) & ~(size_t)15;
  const unsigned heap = inside ? world.running : MAIN;
  struct block *b;

  if (!inside && !happens)
    return __real_malloc (bytes);
  b = find_free (arena.heaps[heap], &world.threads[heap].heap_used, whole);
  if (b == NULL)
    abort ();
  b->used = 1;
  return b + 1;
}

void *
__wrap_calloc (size_t n, size_t bytes)
{
  return inside || happens ? __wrap_malloc (n * bytes)
                           : __real_calloc (n, bytes);
}

static bool
is_ours (const void *p)
{
  const uint8_t *at = p;

  return at >= arena.heaps[0] && at < arena.heaps[THREADS - 1] + HEAP_BYTES;
}

/* The last blocks go, as far as they are free. */
static void
trim_heap (unsigned i)
{
  size_t *used = &world.threads[i].heap_used;
  size_t end = 0;

  for (size_t at = 0; at < *used;) {
    const struct block *b = (struct block *)(arena.heaps[i] + at);

    at += b->bytes;
    if (b->used)
      end = at;
  }
  memset (arena.heaps[i] + end, 0, *used - end);
  *used = end;
}

void
__wrap_free (void *p)
{
  struct block *b = (struct block *)p - 1;

  if (!is_ours (p)) {
    __real_free (p);
    return;
  }
  assert (b->used);
  b->used = 0;
  memset (p, 0, b->bytes - sizeof *b);
  trim_heap (((uint8_t *)p - arena.heaps[0]) / HEAP_BYTES);
}

void *
__wrap_realloc (void *old, size_t bytes)
{
  void *p = __wrap_malloc (bytes);

  if (old != NULL) {
    const size_t had = ((struct block *)old)[-1].bytes - sizeof (struct block);

    memcpy (p, old, had < bytes ? had : bytes);
    __wrap_free (old);
  }
  return p;
}

char *
__wrap_strdup (const char *text)
{
  char *copy = __wrap_malloc (strlen (text) + 1);

  return strcpy (copy, text);
}

int
__wrap_vasprintf (char **out, const char *format, va_list args)
{
  char text[1000];
  const bool was_inside = inside;
  int n;

  inside = false;
  n = vsnprintf (text, sizeof text, format, args);
  inside = was_inside;
  *out = __wrap_strdup (text);
  return n;
}

int
__wrap_asprintf (char **out, const char *format, ...)
{
  va_list args;
  int n;

  va_start (args, format);
  n = __wrap_vasprintf (out, format, args);
  va_end (args);
  return n;
}

void *
__wrap_mmap (void *address, size_t length, int protection, int flags, int fd,
             off_t offset)
{
  (void)address;
  (void)protection;
  (void)flags;
  (void)fd;
  (void)offset;
  return __wrap_malloc (length);
}

int
__wrap_munmap (void *address, size_t length)
{
  (void)length;
  __wrap_free (address);
  return 0;
}

int
__wrap_madvise (void *address, size_t length, int advice)
{
  (void)address;
  (void)length;
  (void)advice;
  return 0;
}

/* ---- Locks and conditions ----------------------------------------------- */

extern int __wrap_pthread_mutex_lock (pthread_mutex_t *mutex);
extern int __wrap_pthread_mutex_unlock (pthread_mutex_t *mutex);
extern int __wrap_pthread_mutex_init (pthread_mutex_t *mutex,
                                      const pthread_mutexattr_t *attr);
extern int __wrap_pthread_mutex_destroy (pthread_mutex_t *mutex);
extern int __wrap_pthread_cond_init (pthread_cond_t *cond,
                                     const pthread_condattr_t *attr);
extern int __wrap_pthread_cond_destroy (pthread_cond_t *cond);
extern int __wrap_pthread_cond_signal (pthread_cond_t *cond);
extern int __wrap_pthread_cond_broadcast (pthread_cond_t *cond);
extern int __wrap_pthread_cond_wait (pthread_cond_t *cond,
                                     pthread_mutex_t *mutex);
extern int __wrap_pthread_cond_clockwait (pthread_cond_t *cond,
                                          pthread_mutex_t *mutex,
                                          clockid_t clock,
                                          const struct timespec *until);
extern int __wrap_pthread_create (pthread_t *thread, const pthread_attr_t *attr,
                                  void *(*start) (void *), void *opaque);
extern int __wrap_pthread_join (pthread_t thread, void **result);
extern int __wrap_clock_gettime (clockid_t clock, struct timespec *ts);
extern void __wrap_abort (void) __attribute__ ((noreturn));
extern void __wrap___assert_fail (const char *assertion, const char *file,
                                  unsigned line, const char *function)
  __attribute__ ((noreturn));

/* The lock of errors that are owed is for its own data only, and nothing waits
 * with it.
 */
static bool
is_seen_by_others (const pthread_mutex_t *mutex)
{
  return mutex != &world.owed.lock && mutex != &world.owed.keep_lock;
}

static bool *
locked (pthread_mutex_t *mutex)
{
  return (bool *)mutex;
}

/* No thread stops while it has one: whoever is told to go on gets it. */
int
__wrap_pthread_mutex_lock (pthread_mutex_t *mutex)
{
  if (inside && is_seen_by_others (mutex)) {
    self ()->state = THREAD_READY;
    leave ();
  }
  assert (!*locked (mutex));
  *locked (mutex) = true;
  return 0;
}

int
__wrap_pthread_mutex_unlock (pthread_mutex_t *mutex)
{
  assert (*locked (mutex));
  *locked (mutex) = false;
  return 0;
}

int
__wrap_pthread_mutex_init (pthread_mutex_t *mutex,
                           const pthread_mutexattr_t *attr)
{
  (void)attr;
  memset (mutex, 0, sizeof *mutex);
  return 0;
}

int
__wrap_pthread_mutex_destroy (pthread_mutex_t *mutex)
{
  assert (!*locked (mutex));
  return 0;
}

int
__wrap_pthread_cond_init (pthread_cond_t *cond, const pthread_condattr_t *attr)
{
  (void)attr;
  memset (cond, 0, sizeof *cond);
  return 0;
}

int
__wrap_pthread_cond_destroy (pthread_cond_t *cond)
{
  (void)cond;
  return 0;
}

/* It may wake more than one: who waits must look again. */
int
__wrap_pthread_cond_signal (pthread_cond_t *cond)
{
  wake (cond);
  return 0;
}

int
__wrap_pthread_cond_broadcast (pthread_cond_t *cond)
{
  wake (cond);
  return 0;
}

static void
wait_until (pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t until_ms)
{
  __wrap_pthread_mutex_unlock (mutex);
  sleep_on (cond, until_ms);
  assert (!*locked (mutex));
  *locked (mutex) = true;
}

int
__wrap_pthread_cond_wait (pthread_cond_t *cond, pthread_mutex_t *mutex)
{
  wait_until (cond, mutex, NEVER);
  return 0;
}

int
__wrap_pthread_cond_clockwait (pthread_cond_t *cond, pthread_mutex_t *mutex,
                               clockid_t clock, const struct timespec *until)
{
  const int64_t ms = until->tv_sec * INT64_C (1000) + until->tv_nsec / 1000000;

  (void)clock;
  wait_until (cond, mutex, ms);
  return world.clock_ms >= ms ? ETIMEDOUT : 0;
}

int
__wrap_pthread_create (pthread_t *thread, const pthread_attr_t *attr,
                       void *(*start) (void *), void *opaque)
{
  (void)attr;
  *thread = thread_begin (start, opaque);
  return 0;
}

int
__wrap_pthread_join (pthread_t thread, void **result)
{
  (void)result;
  self ()->other = (unsigned)thread;
  self ()->state = THREAD_JOINS;
  leave ();
  return 0;
}

int
__wrap_clock_gettime (clockid_t clock, struct timespec *ts)
{
  (void)clock;
  ts->tv_sec = world.clock_ms / 1000;
  ts->tv_nsec = world.clock_ms % 1000 * 1000000;
  return 0;
}

/* ---- Bells (remote/bell.h) ---------------------------------------------- */

uint32_t
bell_look (const struct bell *bell)
{
  return bell->rung;
}

bool
bell_wait (struct bell *bell, uint32_t look, uint32_t bits, int timeout_ms)
{
  (void)bits;
  if (bell->rung != look)
    return true;
  sleep_on (bell, timeout_ms < 0 ? NEVER : world.clock_ms + timeout_ms);
  return bell->rung != look;
}

void
bell_ring (struct bell *bell, uint32_t bits)
{
  (void)bits;
  ++bell->rung;
  wake (bell);
}

/* ---- What must not be --------------------------------------------------- */

static char said[300];

void
must (bool right, const char *what)
{
  if (!right && violation == NULL)
    violation = what;
}

/* The thread stays where it is. */
static void
stay (void)
{
  self ()->state = THREAD_ENDED;
  leave ();
  exit (EXIT_FAILURE); /* nobody lets it run again */
}

void
__wrap___assert_fail (const char *assertion, const char *file, unsigned line,
                      const char *function)
{
  snprintf (said, sizeof said, "assertion \"%s\" failed in %s, %s:%u",
            assertion, function, file, line);
  must (false, said);
  if (!inside) {
    fprintf (stderr, "%s\n", said);
    exit (EXIT_FAILURE);
  }
  stay ();
  exit (EXIT_FAILURE);
}

void
__wrap_abort (void)
{
  __wrap___assert_fail ("not abort ()", "?", 0, "?");
}

/* ---- Keeping ------------------------------------------------------------ */

/* From here on a thread's stack is in use. */
static uint8_t *
stack_pointer (unsigned i)
{
#ifdef __x86_64__
  return (uint8_t *)world.threads[i].context.uc_mcontext.gregs[REG_RSP];
#else
  return arena.stacks[i];
#endif
}

struct piece {
  uint8_t *start;
  size_t bytes;
};

#define PIECES (1 + 2 * THREADS)

static unsigned
list_pieces (struct piece v[PIECES])
{
  unsigned n = 0;

  v[n++] = (struct piece){ (uint8_t *)&world, sizeof world };
  for (unsigned i = 0; i < THREADS; i++) {
    const struct thread *t = &world.threads[i];

    v[n++] = (struct piece){ arena.heaps[i], t->heap_used };
    if (t->state != THREAD_NONE && t->state != THREAD_ENDED) {
      uint8_t *const sp = stack_pointer (i);

      v[n++] = (struct piece){ sp, arena.stacks[i] + STACK_BYTES - sp };
    }
  }
  return n;
}

void *
world_keep (void)
{
  struct piece v[PIECES];
  const unsigned n = list_pieces (v);
  size_t bytes = 0;
  uint8_t *copy, *at;

  for (unsigned i = 0; i < n; i++)
    bytes += v[i].bytes;
  at = copy = __real_malloc (bytes);
  if (copy == NULL)
    abort ();
  for (unsigned i = 0; i < n; i++) {
    memcpy (at, v[i].start, v[i].bytes);
    at += v[i].bytes;
  }
  return copy;
}

/* The world comes first and tells where the rest is. */
void
world_restore (const void *copy)
{
  struct piece v[PIECES];
  const uint8_t *at = copy;
  size_t used[THREADS];
  unsigned n;

  for (unsigned i = 0; i < THREADS; i++)
    used[i] = world.threads[i].heap_used;
  memcpy (&world, at, sizeof world);
  for (unsigned i = 0; i < THREADS; i++)
    if (used[i] > world.threads[i].heap_used)
      memset (arena.heaps[i] + world.threads[i].heap_used, 0,
              used[i] - world.threads[i].heap_used);
  n = list_pieces (v);
  for (unsigned i = 0; i < n; i++) {
    memcpy (v[i].start, at, v[i].bytes);
    at += v[i].bytes;
  }
}

void
world_drop (void *copy)
{
  __real_free (copy);
}

/* ---- The state as a number ---------------------------------------------- */

static uint64_t
stir (uint64_t key, uint64_t word)
{
  key = (key ^ word) * UINT64_C (0x9e3779b97f4a7c15);
  return key ^ key >> 32;
}

/* Four at a time, which the processor does side by side. */
static uint64_t
stir_bytes (uint64_t key, const uint8_t *p, size_t n)
{
  uint64_t lanes[4] = { key, key + 1, key + 2, key + 3 };
  uint64_t words[4];

  for (; n >= sizeof words; n -= sizeof words, p += sizeof words) {
    memcpy (words, p, sizeof words);
    for (unsigned i = 0; i < 4; i++)
      lanes[i] = stir (lanes[i], words[i]);
  }
  memset (words, 0, sizeof words);
  memcpy (words, p, n);
  for (unsigned i = 0; i < 4; i++)
    key = stir (key, stir (lanes[i], words[i]));
  return key;
}

uint64_t
world_key (void)
{
  struct piece v[PIECES];
  const unsigned n = list_pieces (v);
  const unsigned running = world.running;
  uint64_t key = 1;

  if (world.left.switches == ANY_SWITCHES)
    world.running = 0;
  for (unsigned i = 0; i < n; i++)
    key = stir_bytes (key, v[i].start, v[i].bytes);
  world.running = running;
  return key;
}
