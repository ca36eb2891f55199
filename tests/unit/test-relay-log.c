/* SPDX-License-Identifier: BSD-3-Clause */
/* The log of unflushed writes (R13), against a simple model of it. */

#include <string.h>

#include "relay/log.h"
#include "unit.h"

#define LOG_BYTES 65536

static uint64_t
reserve (struct relay_log *log, uint64_t offset, uint64_t length)
{
  uint8_t *data;
  uint64_t id;

  CU_ASSERT_TRUE_FATAL (
    relay_log_reserve (log, LOG_WRITE, 0, offset, length, &id, &data));
  memset (data, (uint8_t)id, length);
  return id;
}

static unsigned
count (const struct relay_log *log)
{
  struct log_entry entry;
  uint64_t cursor = 0;
  unsigned n = 0;

  while (relay_log_next (log, &cursor, &entry))
    ++n;
  return n;
}

static void
test_order (void)
{
  struct relay_log *log = relay_log_new (LOG_BYTES);
  struct log_entry entry;
  uint64_t cursor = 0, id, a, b;
  uint8_t *data;

  CU_ASSERT (relay_log_empty (log));
  CU_ASSERT_EQUAL (relay_log_largest (log), LOG_BYTES / 4);
  a = reserve (log, 4096, 100);
  CU_ASSERT_TRUE (relay_log_reserve (log, LOG_ZERO, 7, 8192, 512, &id, &data));
  CU_ASSERT_PTR_NULL (data);
  b = reserve (log, 0, 1);
  CU_ASSERT_FALSE (relay_log_empty (log));
  CU_ASSERT_EQUAL (count (log), 0); /* none is acknowledged yet */

  relay_log_acknowledge (log, b);
  relay_log_acknowledge (log, id);
  relay_log_acknowledge (log, a);
  CU_ASSERT_TRUE (relay_log_next (log, &cursor, &entry));
  CU_ASSERT_EQUAL (entry.offset, 4096);
  CU_ASSERT_EQUAL (entry.length, 100);
  CU_ASSERT_EQUAL (entry.data[99], (uint8_t)a);
  CU_ASSERT_TRUE (relay_log_next (log, &cursor, &entry));
  CU_ASSERT_EQUAL (entry.kind, LOG_ZERO);
  CU_ASSERT_EQUAL (entry.flags, 7);
  CU_ASSERT_PTR_NULL (entry.data);
  CU_ASSERT_TRUE (relay_log_next (log, &cursor, &entry));
  CU_ASSERT_EQUAL (entry.offset, 0);
  CU_ASSERT_FALSE (relay_log_next (log, &cursor, &entry));
  relay_log_free (log);
}

/* A flush covers what was acknowledged before it began, no more. */
static void
test_flush (void)
{
  struct relay_log *log = relay_log_new (LOG_BYTES);
  uint64_t a = reserve (log, 0, 10), b = reserve (log, 10, 10), c, first;

  relay_log_acknowledge (log, b);
  first = relay_log_flush_begin (log);
  relay_log_acknowledge (log, a);
  c = reserve (log, 20, 10);
  relay_log_acknowledge (log, c);
  relay_log_flush_end (log, first);
  CU_ASSERT_EQUAL (count (log), 2);
  CU_ASSERT_FALSE (relay_log_empty (log));

  /* Two at a time; the later one ends first. */
  first = relay_log_flush_begin (log);
  const uint64_t second = relay_log_flush_begin (log);
  relay_log_flush_end (log, second);
  CU_ASSERT_EQUAL (count (log), 0);
  CU_ASSERT_TRUE (relay_log_empty (log));
  relay_log_flush_end (log, first);
  CU_ASSERT_EQUAL (relay_log_used (log), 0);
  relay_log_free (log);
}

static void
test_bound (void)
{
  struct relay_log *log = relay_log_new (LOG_BYTES);
  uint64_t ids[4], id, mark;
  uint8_t *data;

  for (unsigned i = 0; i < 4; ++i) {
    CU_ASSERT_EQUAL (relay_log_half_full (log), i > 2);
    ids[i] = reserve (log, i * 16384, 16384);
  }
  CU_ASSERT_FALSE (relay_log_reserve (log, LOG_WRITE, 0, 0, 1, &id, &data));
  CU_ASSERT_TRUE (relay_log_reserve (log, LOG_TRIM, 0, 0, 1, &id, &data));
  relay_log_cancel (log, id);
  relay_log_cancel (log, ids[1]); /* behind one that is still pending */
  CU_ASSERT_FALSE (relay_log_reserve (log, LOG_WRITE, 0, 0, 1, &id, &data));
  relay_log_acknowledge (log, ids[0]);
  mark = relay_log_flush_begin (log);
  relay_log_flush_end (log, mark);
  CU_ASSERT_EQUAL (relay_log_used (log), 32768);
  CU_ASSERT_TRUE (relay_log_reserve (log, LOG_WRITE, 0, 0, 1, &id, &data));
  relay_log_free (log);
}

/* It takes no write, but what has no data. */
static void
test_smallest (void)
{
  struct relay_log *log = relay_log_new (0);
  uint64_t id;
  uint8_t *data;

  CU_ASSERT_EQUAL (relay_log_largest (log), 16);
  CU_ASSERT_TRUE (relay_log_reserve (log, LOG_ZERO, 0, 0, 4096, &id, &data));
  relay_log_cancel (log, id);
  relay_log_release (log);
  relay_log_free (log);
  relay_log_free (NULL);
}

/* Memory that was given back is there again. */
static void
test_release (void)
{
  const size_t bytes = 16 << 20;
  struct relay_log *log = relay_log_new (bytes);

  for (unsigned i = 0; i < 3; ++i) {
    const uint64_t id = reserve (log, 0, bytes / 4);

    relay_log_acknowledge (log, id);
    relay_log_flush_end (log, relay_log_flush_begin (log));
    relay_log_release (log);
  }
  CU_ASSERT_TRUE (relay_log_empty (log));
  relay_log_free (log);
}

static void
test_many_records (void)
{
  struct relay_log *log = relay_log_new (LOG_BYTES);
  uint64_t id;
  uint8_t *data;
  unsigned n = 0;

  /* Records without data are bounded, too. */
  while (relay_log_reserve (log, LOG_ZERO, 0, n, 1, &id, &data)) {
    relay_log_acknowledge (log, id);
    ++n;
  }
  CU_ASSERT (n >= 16 && n < LOG_BYTES);
  CU_ASSERT_TRUE (relay_log_half_full (log));
  CU_ASSERT_EQUAL (count (log), n);
  relay_log_flush_end (log, relay_log_flush_begin (log));
  CU_ASSERT_TRUE (relay_log_empty (log));
  relay_log_free (log);
}

/* ---- Against a model --------------------------------------------------- */

#define MODEL_MAX 4096
#define ANSWER_LAST 24u /* the older ones have been answered, mostly */

struct model_record {
  uint64_t id, length, mark;
  enum { PENDING, ACKNOWLEDGED, CANCELLED } state;
  uint8_t *data;
};

static struct model_record model[MODEL_MAX];
static unsigned nr_model;
static uint64_t model_flushed;

static void
model_reserve (struct relay_log *log, uint64_t *seed)
{
  struct model_record *m = &model[nr_model];
  const uint64_t length = 1 + unit_random (seed, LOG_BYTES / 4);

  if (nr_model == MODEL_MAX || !relay_log_reserve (log, LOG_WRITE, 0, nr_model,
                                                   length, &m->id, &m->data))
    return;
  memset (m->data, (uint8_t)m->id, length);
  m->length = length;
  m->state = PENDING;
  ++nr_model;
}

static void
model_answer (struct relay_log *log, uint64_t *seed, uint64_t flush)
{
  struct model_record *m;

  if (nr_model == 0)
    return;
  m =
    &model[nr_model - 1 -
           unit_random (seed, nr_model < ANSWER_LAST ? nr_model : ANSWER_LAST)];
  if (m->state != PENDING)
    return;
  if (unit_random (seed, 4) == 0) {
    m->state = CANCELLED;
    relay_log_cancel (log, m->id);
  }
  else {
    m->state = ACKNOWLEDGED;
    m->mark = flush;
    relay_log_acknowledge (log, m->id);
  }
}

static bool
model_agrees (const struct relay_log *log)
{
  struct log_entry entry;
  uint64_t cursor = 0;

  for (unsigned i = 0; i < nr_model; ++i) {
    const struct model_record *m = &model[i];

    if (m->state != ACKNOWLEDGED || m->mark <= model_flushed)
      continue;
    if (!relay_log_next (log, &cursor, &entry) || entry.offset != i ||
        entry.length != m->length)
      return false;
    for (uint64_t at = 0; at < entry.length; ++at) {
      if (entry.data[at] != (uint8_t)m->id)
        return false;
    }
  }
  return !relay_log_next (log, &cursor, &entry);
}

static void
test_random (void)
{
  struct relay_log *log = relay_log_new (LOG_BYTES);
  uint64_t seed = unit_seed (), mark, flush = 1;
  bool ok = true;

  for (unsigned i = 0; i < 20000 && ok; ++i) {
    switch (unit_random (&seed, 8)) {
    case 0:
    case 1:
    case 2:
      model_reserve (log, &seed);
      break;
    case 7:
      mark = relay_log_flush_begin (log);
      ++flush;
      if (unit_random (&seed, 2) == 0) {
        model_answer (log, &seed, flush);
        relay_log_flush_end (log, mark);
        model_flushed = mark;
      }
      break;
    default:
      model_answer (log, &seed, flush);
    }
    if (i % 64 == 0)
      ok = model_agrees (log);
  }
  CU_ASSERT_TRUE (ok);
  CU_ASSERT (nr_model > 100);
  printf ("%u records ", nr_model);
  relay_log_free (log);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "order", test_order },
    { "what a flush covers", test_flush },
    { "the bound", test_bound },
    { "the bound without data", test_many_records },
    { "the smallest", test_smallest },
    { "memory is given back", test_release },
    { "against a model", test_random },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("relay-log", tests);
}
