/* SPDX-License-Identifier: BSD-3-Clause */
/* What pace.c finds with servers that are simulated: a distance, a bandwidth, a
 * cache that too much in flight does not fit, and noise.
 */

#include "policy/pace.h"
#include "unit.h"

#define KIB UINT64_C (1024)
#define MIB (1024 * KIB)
#define IN_FLIGHT_MAX 512

struct server {
  double distance_us;  /* of each answer, however many are on their way */
  double bytes_per_us; /* of all together */
  double cache_bytes;  /* 0: no limit */
  double cliff;        /* how much longer a byte takes beyond it */
  double noise;        /* of each request: 0.1 is up to a tenth, both ways */
  double busy;         /* other work takes up to so much of it, for a while */
};

#define BUSY_US_MAX 40000 /* how long one such while may be */

static const struct pace_options to_options = {
  .connections = 8,
  .depth_max = 16,
  .request_bytes = 256 * KIB,
  .request_bytes_max = 2 * MIB,
  .bytes_max = 32 * MIB,
};

struct request {
  double begun_us, ended_us;
  double bytes;
};

struct simulation {
  struct pace pace;
  const struct server *server;
  double now_us, free_us; /* the server is, from then on */
  double slower, slower_until_us;
  struct request in_flight[IN_FLIGHT_MAX];
  unsigned n;
  double bytes; /* all that ended */
};

static uint64_t seed;

static double
noise (const struct server *s)
{
  return 1 + s->noise * ((double)unit_random (&seed, 2001) / 1000 - 1);
}

/* Other work on the machine: now more, now less. */
static double
other_work (struct simulation *m)
{
  if (m->now_us >= m->slower_until_us) {
    m->slower =
      1 / (1 - m->server->busy * (double)unit_random (&seed, 1001) / 1000);
    m->slower_until_us =
      m->now_us + 1 + (double)unit_random (&seed, BUSY_US_MAX);
  }
  return m->slower;
}

static void
send (struct simulation *m)
{
  const struct server *s = m->server;
  struct request *r = &m->in_flight[m->n++];
  const double begin_us = m->free_us > m->now_us ? m->free_us : m->now_us;
  double us, there = 0;
  unsigned i;

  r->bytes = (double)pace_limits (&m->pace)->request_bytes;
  r->begun_us = m->now_us;
  for (i = 0; i < m->n; ++i)
    there += m->in_flight[i].bytes;
  us = r->bytes / s->bytes_per_us * noise (s) * other_work (m);
  if (s->cache_bytes > 0 && there > s->cache_bytes)
    us *= s->cliff;
  m->free_us = begin_us + us;
  r->ended_us = m->free_us + s->distance_us;
}

static void
receive (struct simulation *m, unsigned most)
{
  unsigned i, first = 0;
  struct request r;

  for (i = 1; i < m->n; ++i)
    if (m->in_flight[i].ended_us < m->in_flight[first].ended_us)
      first = i;
  r = m->in_flight[first];
  m->now_us = r.ended_us;
  m->bytes += r.bytes;
  pace_ended (&m->pace, (int64_t)r.begun_us, (int64_t)m->now_us,
              (uint64_t)r.bytes, m->n >= most);
  m->in_flight[first] = m->in_flight[--m->n];
}

/* Go on for so long; how many bytes per microsecond that were. */
static double
go_on (struct simulation *m, double seconds)
{
  const double begin_us = m->now_us, bytes = m->bytes;

  while (m->now_us < begin_us + seconds * 1e6) {
    const struct pace_limits l = *pace_limits (&m->pace);

    while (m->n < l.connections * l.depth)
      send (m);
    receive (m, l.connections * l.depth);
  }
  return (m->bytes - bytes) / (m->now_us - begin_us);
}

static void
begin (struct simulation *m, const struct server *s,
       const struct pace_options *o)
{
  *m = (struct simulation){ .server = s, .now_us = 1e6 };
  pace_init (&m->pace, o);
}

static unsigned
in_flight (const struct simulation *m)
{
  const struct pace_limits *l = pace_limits (&m->pace);

  return l->connections * l->depth;
}

/* ---- near -------------------------------------------------------------- */

static void
test_near (void)
{
  const struct server s = { 100, 1000, .noise = 0.1 };
  struct simulation m;

  begin (&m, &s, &to_options);
  CU_ASSERT (go_on (&m, 20) > 950);
  CU_ASSERT_EQUAL (in_flight (&m), 8);
  CU_ASSERT_EQUAL (pace_limits (&m.pace)->connections, 1);
}

/* More has brought nothing, but now and then it looks so. */
static void
test_noise (void)
{
  const struct server s = { 100, 1000, .noise = 0.1, .busy = 0.6 };
  struct simulation m;
  unsigned i, j, more = 0;

  for (i = 0; i < 100; ++i) {
    begin (&m, &s, &to_options);
    for (j = 0; j < 100; ++j) {
      go_on (&m, 0.02); /* a short copy: 2 s in all */
      more += in_flight (&m) > 16;
    }
  }
  CU_ASSERT (more < 1000); /* of 10,000; seen: 140 to 725 */
}

static void
test_cache (void)
{
  const struct server s = { 100, 1000, .cache_bytes = 3 * MIB, .cliff = 1.6,
                            .noise = 0.1 };
  struct simulation m;

  begin (&m, &s, &to_options);
  go_on (&m, 1);
  CU_ASSERT (go_on (&m, 20) > 950);
  CU_ASSERT_EQUAL (in_flight (&m), 8);
}

/* ---- far --------------------------------------------------------------- */

static double
possible (const struct server *s)
{
  const double in_flight_max = 32 * MIB / s->distance_us;

  return in_flight_max < s->bytes_per_us ? in_flight_max : s->bytes_per_us;
}

static void
test_far (void)
{
  static const double ms[] = { 1, 5, 20, 50, 100 };
  size_t i;
  int known;

  for (i = 0; i < sizeof ms / sizeof ms[0]; ++i)
    for (known = 0; known < 2; ++known) {
      const struct server s = { ms[i] * 1000, 500, .noise = 0.2 };
      struct pace_options o = to_options;
      struct simulation m;

      o.distance_us = known ? (int64_t)s.distance_us : 0;
      begin (&m, &s, &o);
      go_on (&m, 0.1 + 12 * ms[i] / 1000);
      CU_ASSERT (go_on (&m, 2) > 0.75 * possible (&s));
      go_on (&m, 10);
      CU_ASSERT (go_on (&m, 10) > 0.85 * possible (&s));
    }
}

static void
test_slow_line (void)
{
  const struct server s = { 50000, 10, .noise = 0.2 };
  struct pace_options o = to_options;
  struct simulation m;

  o.distance_us = 50000;
  begin (&m, &s, &o);
  go_on (&m, 400);
  CU_ASSERT (go_on (&m, 10) > 9);
  CU_ASSERT (in_flight (&m) <= 16); /* two would do */
}

/* One that comes near, and goes away. */
static void
test_change (void)
{
  const struct server near = { 100, 1000, .noise = 0.1 };
  const struct server far = { 20000, 400, .noise = 0.1 };
  struct simulation m;

  begin (&m, &near, &to_options);
  go_on (&m, 10);
  m.server = &far;
  go_on (&m, 20);
  CU_ASSERT (go_on (&m, 5) > 300);
  m.server = &near;
  go_on (&m, 120);
  CU_ASSERT (in_flight (&m) <= 8);
}

/* ---- what may be chosen ------------------------------------------------ */

static void
test_depth_of_one (void)
{
  const struct server s = { .distance_us = 50000, .bytes_per_us = 500 };
  struct pace_options o = to_options;
  struct simulation m;

  o.depth_max = 1;
  begin (&m, &s, &o);
  go_on (&m, 3);
  CU_ASSERT_EQUAL (pace_limits (&m.pace)->depth, 1);
  CU_ASSERT_EQUAL (pace_limits (&m.pace)->connections, 8);
  CU_ASSERT_EQUAL (pace_limits (&m.pace)->request_bytes, 2 * MIB);
}

static void
test_asked_for (void)
{
  const struct server s = { .distance_us = 50000, .bytes_per_us = 500 };
  const struct pace_options o = {
    .connections = 5,
    .depth_max = 3,
    .request_bytes = 64 * KIB,
    .request_bytes_max = 64 * KIB,
    .bytes_max = 1, /* the first step is always allowed */
    .all_connections = true,
    .whole_depth = true,
    .distance_us = 50000,
  };
  struct simulation m;

  begin (&m, &s, &o);
  go_on (&m, 3);
  CU_ASSERT_EQUAL (m.pace.nr_steps, 1);
  CU_ASSERT_EQUAL (pace_limits (&m.pace)->connections, 5);
  CU_ASSERT_EQUAL (pace_limits (&m.pace)->depth, 3);
  CU_ASSERT_EQUAL (pace_limits (&m.pace)->request_bytes, 64 * KIB);
}

static void
test_steps (void)
{
  struct pace_options o = to_options;
  struct pace p;
  unsigned i;

  o.connections = 7;
  pace_init (&p, &o);
  for (i = 0; i < p.nr_steps; ++i) {
    const struct pace_limits *l = &p.steps[i];

    CU_ASSERT (l->connections <= 7 && l->depth <= 16);
    CU_ASSERT (l->request_bytes <= 2 * MIB);
    CU_ASSERT (l->connections * l->depth * l->request_bytes <= 32 * MIB);
  }
  CU_ASSERT_EQUAL (p.steps[0].connections, 1);
  CU_ASSERT_EQUAL (p.steps[0].depth, 8);
  CU_ASSERT_EQUAL (p.steps[p.nr_steps - 1].connections, 7);
  CU_ASSERT_EQUAL (p.steps[p.nr_steps - 1].depth, 16);
}

/* Who waits for the other side has no reason to ask for more. */
static void
test_not_full (void)
{
  struct pace p;
  int i;

  pace_init (&p, &to_options);
  for (i = 0; i < 100000; ++i)
    pace_ended (&p, i * 1000 - 500, i * 1000, 256 * KIB, false);
  CU_ASSERT_EQUAL (p.at, 0);
}

/* Once the other side is what limits, nothing more is asked for. */
static void
test_not_full_any_more (void)
{
  struct pace p;
  int i;

  pace_init (&p, &to_options);
  for (i = 0; i < 10000; ++i) /* each step is twice as fast */
    pace_ended (&p, i * 1000 - 500, i * 1000, (256 * KIB) << p.at, p.at < 3);
  CU_ASSERT (p.at <= 2);
  CU_ASSERT_EQUAL (p.phase, PACE_STEADY);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a near server", test_near },
    { "other work", test_noise },
    { "a cache", test_cache },
    { "far servers", test_far },
    { "a slow line", test_slow_line },
    { "a server that moves", test_change },
    { "a depth of one", test_depth_of_one },
    { "what was asked for", test_asked_for },
    { "steps", test_steps },
    { "not full", test_not_full },
    { "not full any more", test_not_full_any_more },
    CU_TEST_INFO_NULL,
  };

  seed = unit_seed ();
  return unit_main ("pace", tests);
}
