/* SPDX-License-Identifier: BSD-3-Clause */
/* Threads that send random requests of odd offsets and lengths through a relay,
 * each in its own part of the disk, and know what every byte must be.
 *
 * The parts meet inside blocks, so that read-modify-write without a lock would
 * lose a neighbour's bytes.
 */

#ifndef NBDMIGRATE_RELAY_WORKER_H
#define NBDMIGRATE_RELAY_WORKER_H

#include <errno.h>
#include <pthread.h>

#include "relay-unit.h"

#define FILE_BYTES 1048576
#define DISK_BYTES (FILE_BYTES - 77)
#define THREADS 4
#define PART_BYTES (DISK_BYTES / THREADS)
#define LENGTH_MAX 100000
#define FILL 0xee /* what the disk holds at first */

struct part {
  struct relay *relay;
  unsigned steps; /* to do; atomic: set to 0 to stop */
  unsigned done;  /* atomic */
  uint64_t start; /* its part of the disk: PART_BYTES from here */
  uint64_t seed;
  uint8_t *model; /* of the whole disk; only its part is touched */
  unsigned wrong;
  const char *what; /* was wrong first */
  int error;
};

static inline void
complain (struct part *p, const char *what)
{
  if (p->wrong++ == 0)
    p->what = what, p->error = errno;
}

static inline void
choose_range (struct part *p, uint64_t *offset, uint64_t *length)
{
  uint64_t max = unit_random (&p->seed, 4) == 0 ? LENGTH_MAX : 9000;

  *offset = unit_random (&p->seed, PART_BYTES);
  switch (unit_random (&p->seed, 8)) {
  case 0: /* where it meets its neighbours */
    *offset %= 3000;
    break;
  case 1:
    *offset = PART_BYTES - 1 - *offset % 3000;
    break;
  }
  if (max > PART_BYTES - *offset)
    max = PART_BYTES - *offset;
  *length = 1 + unit_random (&p->seed, max);
  *offset += p->start;
}

static inline void
step_write (struct part *p, uint64_t offset, uint64_t length)
{
  const unsigned flags = unit_random (&p->seed, 5) == 0 ? RELAY_FUA : 0;

  for (uint64_t i = 0; i < length; ++i)
    p->model[offset + i] = unit_random (&p->seed, 256);
  if (relay_write (p->relay, p->model + offset, length, offset, flags, NULL) ==
      -1)
    complain (p, "write");
}

static inline void
step_zero (struct part *p, uint64_t offset, uint64_t length)
{
  unsigned flags = unit_random (&p->seed, 8);

  if (relay_zero (p->relay, length, offset, flags, NULL) == -1) {
    if (!(flags & RELAY_FAST_ZERO) || errno != EOPNOTSUPP) {
      complain (p, "zero");
      return;
    }
    /* Said no: nothing, or zeroes at most. */
    flags &= ~RELAY_FAST_ZERO;
    if (relay_zero (p->relay, length, offset, flags, NULL) == -1)
      complain (p, "zero after fast zero");
  }
  memset (p->model + offset, 0, length);
}

static inline void
step_read (struct part *p, uint64_t offset, uint64_t length)
{
  uint8_t *buf = malloc (length);

  if (relay_read (p->relay, buf, length, offset, NULL) == -1)
    complain (p, "read");
  else if (memcmp (buf, p->model + offset, length) != 0)
    complain (p, "contents");
  free (buf);
}

/* What is trimmed is as it was, or zero; from then on it stays so. */
static inline void
step_trim (struct part *p, uint64_t offset, uint64_t length)
{
  const unsigned flags = unit_random (&p->seed, 2) == 0 ? RELAY_FUA : 0;
  uint8_t *buf = malloc (length);

  if (relay_trim (p->relay, length, offset, flags, NULL) == -1 ||
      relay_read (p->relay, buf, length, offset, NULL) == -1)
    complain (p, "trim");
  else {
    for (uint64_t i = 0; i < length; ++i) {
      if (buf[i] != 0 && buf[i] != p->model[offset + i])
        complain (p, "trimmed contents");
      p->model[offset + i] = buf[i];
    }
  }
  free (buf);
}

struct coverage {
  struct part *part;
  uint64_t next;
  uint64_t end;
};

static inline int
check_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  struct coverage *c = opaque;

  if (offset != c->next || length == 0 || offset + length > c->end)
    complain (c->part, "extents");
  for (uint64_t i = 0; (flags & 2) && i < length; ++i) {
    if (c->part->model[offset + i] != 0)
      complain (c->part, "an extent that is not zero");
  }
  c->next = offset + length;
  return 0;
}

static inline void
step_status (struct part *p, uint64_t offset, uint64_t length)
{
  struct coverage c = { p, offset, offset + length };

  if (relay_block_status (p->relay, length, offset, check_extent, &c, NULL) ==
        -1 ||
      c.next == offset)
    complain (p, "block status");
}

static inline void *
work (void *opaque)
{
  struct part *p = opaque;
  uint64_t offset, length;

  while (__atomic_load_n (&p->steps, __ATOMIC_SEQ_CST) >
         __atomic_fetch_add (&p->done, 1, __ATOMIC_SEQ_CST)) {
    choose_range (p, &offset, &length);
    switch (unit_random (&p->seed, 10)) {
    case 0:
      step_zero (p, offset, length);
      break;
    case 1:
      step_trim (p, offset, length);
      break;
    case 2:
      step_status (p, offset, length);
      break;
    case 3:
      if (relay_cache (p->relay, length, offset, NULL) == -1 ||
          relay_flush (p->relay, NULL, NULL) == -1)
        complain (p, "cache or flush");
      break;
    case 4:
    case 5:
    case 6:
      step_read (p, offset, length);
      break;
    default:
      step_write (p, offset, length);
    }
  }
  return NULL;
}

/* A relay, its disk's contents, and the threads. */
struct workers {
  struct part parts[THREADS];
  pthread_t threads[THREADS];
  uint8_t *model;
};

static inline void
workers_init (struct workers *w)
{
  w->model = malloc (FILE_BYTES);
  memset (w->model, FILL, FILE_BYTES);
}

static inline void
workers_start (struct workers *w, struct relay *r, unsigned steps)
{
  const uint64_t seed = unit_seed ();

  for (unsigned i = 0; i < THREADS; ++i) {
    w->parts[i] = (struct part){
      .relay = r,
      .steps = steps,
      .start = i * PART_BYTES,
      .seed = seed + i * 1000003,
      .model = w->model,
    };
    pthread_create (&w->threads[i], NULL, work, &w->parts[i]);
  }
}

/* Wait until all have done so much more. */
static inline void
workers_advance (struct workers *w, unsigned steps)
{
  for (unsigned i = 0; i < THREADS; ++i) {
    struct part *p = &w->parts[i];
    const unsigned goal = __atomic_load_n (&p->done, __ATOMIC_SEQ_CST) + steps;
    unsigned tries = SERVER_TRIES;

    while (__atomic_load_n (&p->done, __ATOMIC_SEQ_CST) < goal && --tries > 0)
      server_pause ();
    CU_ASSERT_NOT_EQUAL (tries, 0);
  }
}

/* Let them finish; 'now': with the step they are at. */
static inline void
workers_join (struct workers *w, bool now)
{
  for (unsigned i = 0; i < THREADS; ++i) {
    struct part *p = &w->parts[i];

    if (now)
      __atomic_store_n (&p->steps, 0, __ATOMIC_SEQ_CST);
    pthread_join (w->threads[i], NULL);
    CU_ASSERT_EQUAL (p->wrong, 0);
    if (p->wrong)
      printf ("(thread %u: %u wrong, first: %s, errno %d) ", i, p->wrong,
              p->what, p->error);
  }
}

/* Compare the whole disk, through the relay. */
static inline void
workers_check (const struct workers *w, struct relay *r)
{
  uint8_t *disk = malloc (DISK_BYTES);

  CU_ASSERT_EQUAL (relay_read (r, disk, DISK_BYTES, 0, NULL), 0);
  CU_ASSERT_EQUAL (memcmp (disk, w->model, DISK_BYTES), 0);
  free (disk);
}

/* Compare what the destination has in its file, the rest behind the disk, too.
 */
static inline void
workers_check_file (const struct workers *w, const struct server *s)
{
  uint8_t *file = malloc (FILE_BYTES);

  server_read_file (s, file, FILE_BYTES);
  CU_ASSERT_EQUAL (memcmp (file, w->model, FILE_BYTES), 0);
  free (file);
}

static inline void
workers_destroy (struct workers *w)
{
  free (w->model);
}

#endif /* NBDMIGRATE_RELAY_WORKER_H */
