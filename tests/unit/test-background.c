/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast a copy may go beside a guest, with guests that are simulated on a
 * clock of their own: what they do, and what they lose to the copying.
 */

#include <string.h>

#include "policy/background.h"
#include "unit.h"

#define MiB (1024.0 * 1024)
#define TICK_US 1000
#define DEFAULT 50           /* of --background */
#define FASTEST (1000 * MiB) /* of the copy */

/* A guest that waits for its requests, so that it loses the more the faster the
 * copy goes; or one that sends them at a rate of its own.
 */
struct guest {
  double quiet; /* requests per second */
  double loss;  /* of it beside the fastest copy, 0 to 1 */
  double bend;  /* how the loss grows on the way there; 1: evenly */
  bool at_will;
  double noise; /* up to so much more or less */
};

struct run {
  double requests, bytes, rested_us, us;
  double mirrored; /* what guests keep if they are; 0: they are not */
};

/* A part of the loss, if the copy goes as fast as that part of its fastest. */
static double
lost (const struct guest *g, double part)
{
  const double bent = part / (part + (1 - part) / g->bend);

  return g->at_will ? 0 : g->loss * bent;
}

static void
tick (const struct guest *g, struct background *b, struct run *r, uint64_t *rnd)
{
  const double most = b->limit > 0 && b->limit < FASTEST ? b->limit : FASTEST;
  const double pace = background_rests (b) ? 0 : most;
  const double noise =
    1 + g->noise * ((double)unit_random (rnd, 2001) / 1000 - 1);

  r->requests += g->quiet * (r->mirrored > 0 ? r->mirrored : 1) *
                 (1 - lost (g, pace / FASTEST)) * noise * TICK_US / 1e6;
  r->bytes += pace * TICK_US / 1e6;
  r->rested_us += background_rests (b) ? TICK_US : 0;
  r->us += TICK_US;
}

/* Go on for so long; what happened meanwhile. */
static struct run
go (const struct guest *g, struct background *b, struct run *total,
    double seconds, uint64_t *rnd)
{
  const struct run before = *total;

  for (double end = total->us + seconds * 1e6; total->us < end;) {
    if (total->us >= b->next_us) {
      const struct background_sample s = {
        .at_us = total->us,
        .requests = total->requests,
        .bytes = total->bytes,
        .mirrored = total->mirrored > 0,
      };

      background_note (b, &s);
    }
    tick (g, b, total, rnd);
  }
  return (struct run){
    .requests = total->requests - before.requests,
    .bytes = total->bytes - before.bytes,
    .rested_us = total->rested_us - before.rested_us,
    .us = total->us - before.us,
  };
}

static double
share_of (const struct guest *g, const struct run *r)
{
  return r->requests / (g->quiet * r->us / 1e6);
}

static const struct guest guests[] = {
  { 30000, 0.8, 1, false, 0 },     { 30000, 0.8, 1, false, 0.5 },
  { 10000, 0.95, 3, false, 0.3 },  { 10000, 0.95, 0.5, false, 0.3 },
  { 3000, 0.6, 1, false, 0.2 },    { 300, 0.9, 1, false, 0.2 },
  { 100000, 0.97, 5, false, 0.3 },
};

#define NR_GUESTS (sizeof guests / sizeof guests[0])

/* By default a guest keeps 0.6 and with 100 it keeps 0.9, soon, and the copy
 * goes on; it goes slower for the sake of the second.
 */
static void
test_share (void)
{
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < NR_GUESTS; i++) {
    double bytes[2];

    for (int k = 0; k < 2; k++) {
      struct background b;
      struct run total = { 0 }, r;
      const double wanted = k == 0 ? 0.6 : 0.9;

      background_init (&b, k == 0 ? DEFAULT : BACKGROUND_MAX);
      go (&guests[i], &b, &total, 3, &rnd);
      r = go (&guests[i], &b, &total, 10, &rnd);
      bytes[k] = r.bytes;
      if (share_of (&guests[i], &r) < wanted)
        printf ("guest %zu keeps %.2f ", i, share_of (&guests[i], &r));
      CU_ASSERT (share_of (&guests[i], &r) >= wanted);
      CU_ASSERT (r.bytes > 0);
    }
    CU_ASSERT (bytes[1] < bytes[0]);
  }
}

/* A disk that seeks: a guest does some dozens of requests a second, and keeps
 * its share of these as well.
 */
static void
test_slow_guests (void)
{
  static const struct guest slow[] = {
    { 150, 0.9, 1, false, 0 },
    { 100, 0.9, 3, false, 0.1 },
    { 50, 0.8, 1, false, 0.1 },
  };
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < sizeof slow / sizeof slow[0]; i++)
    for (int k = 0; k < 2; k++) {
      struct background b;
      struct run total = { 0 }, r;

      background_init (&b, k == 0 ? DEFAULT : BACKGROUND_MAX);
      go (&slow[i], &b, &total, 30, &rnd);
      r = go (&slow[i], &b, &total, 60, &rnd);
      if (share_of (&slow[i], &r) < (k == 0 ? 0.6 : 0.85))
        printf ("guest %zu keeps %.2f ", i, share_of (&slow[i], &r));
      CU_ASSERT (share_of (&slow[i], &r) >= (k == 0 ? 0.6 : 0.85));
      CU_ASSERT (r.rested_us <= 0.11 * r.us);
    }
}

/* One that does less and less, and too little to be judged at last, is not
 * limited any more by what it did before.
 */
static void
test_too_little (void)
{
  static const struct guest calm = { 12, 0, 1, true, 0 };
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 }, r;

  background_init (&b, DEFAULT);
  go (&guests[0], &b, &total, 5, &rnd);
  CU_ASSERT (b.limit > 0);
  go (&calm, &b, &total, 30, &rnd);
  r = go (&calm, &b, &total, 10, &rnd);
  CU_ASSERT (r.bytes >= 0.95 * FASTEST * 10);
}

/* It does not take long: of the first half second a guest keeps something. */
static void
test_soon (void)
{
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 }, r;

  background_init (&b, DEFAULT);
  r = go (&guests[0], &b, &total, 0.5, &rnd);
  CU_ASSERT (share_of (&guests[0], &r) >= 0.5);
}

/* What stands still before anything is copied is not the copy's pace: the walk
 * over a file, for its holes, while guests get nothing done.
 */
static void
test_begins (void)
{
  static const struct guest g = { 15000, 0, 1, true, 0.02 };
  static const double walks[] = { 0, 20000, 57000, 140000 };
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < sizeof walks / sizeof walks[0]; i++) {
    struct background b;
    struct run total = { .requests = 100, .us = 1 }, r;

    background_init (&b, DEFAULT);
    for (; total.us < walks[i]; total.us += TICK_US)
      if (total.us >= b.next_us) {
        const struct background_sample s = { .at_us = total.us,
                                             .requests = total.requests };

        background_note (&b, &s);
      }
    r = go (&g, &b, &total, 1, &rnd);
    CU_ASSERT_EQUAL (b.limit, 0);
    CU_ASSERT (background_kept_beside (&b) >= 94);
    CU_ASSERT (r.bytes >= 0.6 * FASTEST); /* but for four looks */
  }
}

/* A copy too slow to be sure of that in half a second is looked at as well. */
static void
test_begins_slowly (void)
{
  struct background_sample s = { .at_us = 1 };
  struct background b;

  background_init (&b, DEFAULT);
  for (; s.at_us < 1000000; s.at_us += TICK_US) {
    s.requests += 10;
    s.bytes += background_rests (&b) ? 0 : 1000;
    if (s.at_us >= b.next_us)
      background_note (&b, &s);
  }
  CU_ASSERT (b.judged > 0);
}

/* A limit that is owed to chance, or to what is over, does not stay: guests
 * that clearly keep more are believed.
 */
static void
test_recovers (void)
{
  static const struct guest hurt = { 15000, 0.98, 1e6, false, 0 };
  static const struct guest calm = { 15000, 0.05, 1, false, 0.05 };
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 }, r;

  background_init (&b, DEFAULT);
  go (&hurt, &b, &total, 1, &rnd);
  CU_ASSERT (b.limit < FASTEST / 30);
  go (&calm, &b, &total, 3.5, &rnd);
  r = go (&calm, &b, &total, 1, &rnd);
  CU_ASSERT (r.bytes >= 0.8 * FASTEST);
}

/* Beside a copy that has become much slower it is not held against it what was
 * beside the faster one.
 */
static void
test_far (void)
{
  static const struct guest hurt = { 15000, 0.9, 1, false, 0 };
  static const struct guest calm = { 15000, 0, 1, true, 0 };
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 };

  background_init (&b, DEFAULT);
  while (b.judged < 1)
    go (&hurt, &b, &total, 0.001, &rnd);
  CU_ASSERT (b.limit < FASTEST / 2);
  while (b.judged < 2)
    go (&calm, &b, &total, 0.001, &rnd);
  CU_ASSERT (b.share > 0.95);
}

/* What guests keep is told as a mean: no one look changes it by much. */
static void
test_kept_beside (void)
{
  static const struct guest waits = { 30000, 0.8, 1, false, 0.2 };
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 };
  unsigned kept;

  background_init (&b, DEFAULT);
  CU_ASSERT_EQUAL (background_kept_beside (&b), 0);
  go (&waits, &b, &total, 3, &rnd);
  kept = background_kept_beside (&b);
  CU_ASSERT (kept > 50);
  CU_ASSERT (kept < 85);
  b.busy = (struct background_rate){ .requests = 1e6, .us = 1e6 };
  go (&waits, &b, &total, 0.4, &rnd); /* a look of nonsense */
  CU_ASSERT (b.share > 0.9);
  CU_ASSERT (background_kept_beside (&b) <= kept + 10);
  total.mirrored = 0.5;
  go (&waits, &b, &total, 0.5, &rnd);
  CU_ASSERT_EQUAL (background_kept_beside (&b), 0);
}

/* Where nothing is lost nothing is given up, but for the looking. */
static void
test_no_need (void)
{
  static const struct guest unharmed[] = {
    { 0, 0, 1, false, 0 },       /* there is none */
    { 10, 0, 1, true, 0 },       /* hardly one */
    { 5000, 0, 1, true, 0.3 },   /* as much as it wants */
    { 20000, 0.1, 1, false, 0 }, /* less than it may */
  };
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < sizeof unharmed / sizeof unharmed[0]; i++) {
    struct background b;
    struct run total = { 0 }, r;

    background_init (&b, DEFAULT);
    go (&unharmed[i], &b, &total, 5, &rnd);
    r = go (&unharmed[i], &b, &total, 20, &rnd);
    CU_ASSERT (r.bytes >= 0.95 * FASTEST * 20);
    if (i == 0)
      CU_ASSERT_EQUAL (r.rested_us, 0);
  }
}

/* Guests that are mirrored from the first second on: what that costs is seen,
 * and is a part of the share.
 */
static void
test_mirrored (void)
{
  static const double kept[] = { 1, 0.85, 0.5, 0.1 };
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
    static const struct guest g = { 20000, 0.8, 1, false, 0.2 };
    struct background b;
    struct run total = { 0 }, r;

    background_init (&b, DEFAULT);
    CU_ASSERT_FALSE (background_knows_quiet (&b));
    go (&g, &b, &total, 1, &rnd);
    CU_ASSERT (background_knows_quiet (&b));
    CU_ASSERT_EQUAL (background_kept_mirrored (&b), 0);
    total.mirrored = kept[i];
    go (&g, &b, &total, 1, &rnd);
    CU_ASSERT (background_kept_mirrored (&b) >= 100 * kept[i] * 0.85);
    CU_ASSERT (background_kept_mirrored (&b) <= 100 * kept[i] * 1.15 + 1);
    go (&g, &b, &total, 2, &rnd);
    r = go (&g, &b, &total, 10, &rnd);
    CU_ASSERT (share_of (&g, &r) >= 0.6 || kept[i] < 0.72);
    CU_ASSERT (share_of (&g, &r) >= 0.9 * kept[i] || kept[i] >= 0.72);
    background_begin_anew (&b, DEFAULT); /* 'set background=' */
    go (&g, &b, &total, 1, &rnd);
    CU_ASSERT (background_kept_mirrored (&b) <= 100 * kept[i] * 1.15 + 1);
    CU_ASSERT (background_kept_mirrored (&b) > 0);
    total.mirrored = 0;
    go (&g, &b, &total, 2, &rnd);
    CU_ASSERT_EQUAL (background_kept_mirrored (&b), 0);
    r = go (&g, &b, &total, 10, &rnd);
    CU_ASSERT (share_of (&g, &r) >= 0.6 && share_of (&g, &r) < 0.85);
  }
}

/* While they are mirrored they go on to do less, or more: what they did before
 * is not what they would do now.
 */
static void
test_mirrored_changes (void)
{
  static const struct guest busy = { 40000, 0.8, 1, false, 0.2 };
  static const struct guest calm = { 4000, 0, 1, true, 0.2 };
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 }, r;

  background_init (&b, DEFAULT);
  go (&busy, &b, &total, 1, &rnd);
  total.mirrored = 0.9;
  go (&busy, &b, &total, 2, &rnd);
  go (&calm, &b, &total, 20, &rnd);
  r = go (&calm, &b, &total, 10, &rnd);
  CU_ASSERT (r.bytes >= 0.8 * FASTEST * 10); /* but for the looking */

  total = (struct run){ 0 };
  background_init (&b, DEFAULT);
  go (&calm, &b, &total, 1, &rnd);
  total.mirrored = 0.9;
  go (&calm, &b, &total, 2, &rnd);
  go (&busy, &b, &total, 6, &rnd);
  r = go (&busy, &b, &total, 10, &rnd);
  CU_ASSERT (share_of (&busy, &r) >= 0.55);
}

/* Not asked for. */
static void
test_off (void)
{
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 };

  background_init (&b, 0);
  go (&guests[0], &b, &total, 5, &rnd);
  CU_ASSERT_EQUAL (total.rested_us, 0);
  CU_ASSERT_EQUAL (b.limit, 0);
}

/* A guest that goes to sleep gives the copy back what it was given. */
static void
test_leaves (void)
{
  static const struct guest none = { 0, 0, 1, false, 0 };
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 }, r;

  background_init (&b, BACKGROUND_MAX);
  go (&guests[0], &b, &total, 5, &rnd);
  CU_ASSERT (b.limit > 0);
  go (&none, &b, &total, 15, &rnd);
  r = go (&none, &b, &total, 5, &rnd);
  CU_ASSERT (r.bytes >= 0.99 * FASTEST * 5);
  /* And it comes back. */
  go (&guests[0], &b, &total, 5, &rnd);
  r = go (&guests[0], &b, &total, 5, &rnd);
  CU_ASSERT (share_of (&guests[0], &r) >= 0.9);
}

/* It is given back at once: what was done before the guest left, and is not
 * done any more, the copy has not taken away.
 */
static void
test_leaves_soon (void)
{
  static const struct guest none = { 0, 0, 1, false, 0 };
  static const unsigned wished[] = { DEFAULT, BACKGROUND_MAX };
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < NR_GUESTS; i++)
    for (int k = 0; k < 2; k++) {
      struct background b;
      struct run total = { 0 }, r;
      uint64_t before;

      background_init (&b, wished[k]);
      go (&guests[i], &b, &total, 5, &rnd);
      before = b.limit;
      CU_ASSERT (before > 0);
      go (&none, &b, &total, 1, &rnd);
      CU_ASSERT (b.limit == 0 || b.limit >= before / 2);
      go (&none, &b, &total, 1.5, &rnd);
      r = go (&none, &b, &total, 1, &rnd);
      CU_ASSERT (r.bytes >= 0.99 * FASTEST);
    }
}

/* Nor does it go slower for a guest that rests now and then, shorter or longer
 * than what it takes to see that it has left; and it keeps its share.
 */
static void
test_rests_itself (void)
{
  static const struct guest none = { 0, 0, 1, false, 0 };
  static const double rests[] = { 0.2, 0.7, 2, 5 };
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < sizeof rests / sizeof rests[0]; i++) {
    struct background b;
    struct run total = { 0 }, at_work = { 0 }, at_rest = { 0 };
    double steady;

    background_init (&b, DEFAULT);
    go (&guests[0], &b, &total, 5, &rnd);
    steady = go (&guests[0], &b, &total, 10, &rnd).bytes / 10;
    for (int k = 0; k < 6; k++) {
      struct run r;

      r = go (&none, &b, &total, rests[i], &rnd);
      at_rest.bytes += r.bytes;
      at_rest.us += r.us;
      r = go (&guests[0], &b, &total, 4, &rnd);
      at_work.requests += r.requests;
      at_work.bytes += r.bytes;
      at_work.us += r.us;
    }
    CU_ASSERT (at_work.bytes / (at_work.us / 1e6) >= 0.7 * steady);
    CU_ASSERT (at_rest.bytes / (at_rest.us / 1e6) >= 0.7 * steady);
    CU_ASSERT (share_of (&guests[0], &at_work) >= 0.6);
  }
}

/* A guest that does much less from some moment on has not lost the rest to the
 * copy; and one that does much more is cared for soon.
 */
static void
test_load_changes (void)
{
  static const double times[] = { 0.2, 0.1, 0.03, 0.01, 5, 20 };
  uint64_t rnd = unit_seed ();

  for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
    struct guest then = guests[0];
    struct background b;
    struct run total = { 0 }, r;
    double steady;

    background_init (&b, DEFAULT);
    go (&guests[0], &b, &total, 5, &rnd);
    steady = go (&guests[0], &b, &total, 10, &rnd).bytes / 10;
    then.quiet *= times[i];
    r = go (&then, &b, &total, 6, &rnd);
    CU_ASSERT (r.bytes >= 0.7 * steady * 6);
    r = go (&then, &b, &total, 6, &rnd);
    CU_ASSERT (share_of (&then, &r) >= 0.6);
    go (&guests[0], &b, &total, 2, &rnd);
    r = go (&guests[0], &b, &total, 4, &rnd);
    CU_ASSERT (share_of (&guests[0], &r) >= 0.6);
    CU_ASSERT (r.bytes >= 0.7 * steady * 4);
  }
}

/* Holes are gone through with hardly a byte moved, and a source may be slow for
 * a while: while guests lose nothing by that the limit, which was right before,
 * stays.
 */
static void
test_holes (void)
{
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 };
  uint64_t before;

  background_init (&b, DEFAULT);
  go (&guests[0], &b, &total, 5, &rnd);
  before = b.limit;
  for (double end = total.us + 3e6; total.us < end; total.us += TICK_US) {
    const struct background_sample s = { .at_us = total.us,
                                         .requests = total.requests,
                                         .bytes = total.bytes };

    if (total.us >= b.next_us)
      background_note (&b, &s);
    total.requests += guests[0].quiet * TICK_US / 1e6;
    total.bytes += background_rests (&b) ? 0 : 2 * MiB * TICK_US / 1e6;
  }
  CU_ASSERT (b.limit >= before);
}

/* Where copying next to nothing takes all from the guest it goes on slowly. */
static void
test_floor (void)
{
  static const struct guest hurt = { 5000, 1, 1e6, false, 0 };
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 }, r;

  background_init (&b, BACKGROUND_MAX);
  go (&hurt, &b, &total, 5, &rnd);
  r = go (&hurt, &b, &total, 10, &rnd);
  CU_ASSERT (r.bytes >= 3 * MiB * 10);
}

/* What was read as data and is zero is given back, maybe in the next stretch,
 * and then more than was taken there: that is no pace.
 */
static void
test_given_back (void)
{
  struct background_sample s = { .at_us = 1000000, .bytes = 64 * MiB };
  struct background b;
  unsigned i;

  background_init (&b, DEFAULT);
  background_note (&b, &s);
  for (i = 0; i < 100; ++i) {
    s.at_us = b.next_us;
    s.requests += background_rests (&b) ? 300 : 60;
    s.bytes -= MiB;
    background_note (&b, &s);
    CU_ASSERT (b.pace == 0 && b.best == 0);
  }
  CU_ASSERT (b.share < 1);
  CU_ASSERT_EQUAL (b.limit, 0);
}

/* A proxy that counts from 0 again has not done 2^64 requests. */
static void
test_counts_anew (void)
{
  struct background_sample s = { .at_us = 1, .requests = 1000 };
  struct background b;

  background_init (&b, DEFAULT);
  background_note (&b, &s);
  s.at_us += 1000000;
  s.requests = 10;
  background_note (&b, &s);
  CU_ASSERT_FALSE (background_rests (&b)); /* nobody is seen */
  CU_ASSERT_EQUAL (b.busy.requests, 0);
}

/* Another share on the way: with 0 nothing is held up from then on. */
static void
test_wished_anew (void)
{
  uint64_t rnd = unit_seed ();
  struct background b;
  struct run total = { 0 }, r;

  background_init (&b, BACKGROUND_MAX);
  go (&guests[0], &b, &total, 3, &rnd);
  CU_ASSERT_TRUE (b.limit > 0);
  background_init (&b, 0);
  r = go (&guests[0], &b, &total, 3, &rnd);
  CU_ASSERT_EQUAL (b.limit, 0);
  CU_ASSERT_EQUAL (r.rested_us, 0);
  background_init (&b, BACKGROUND_MAX);
  go (&guests[0], &b, &total, 3, &rnd);
  r = go (&guests[0], &b, &total, 10, &rnd);
  CU_ASSERT (share_of (&guests[0], &r) >= 0.9);
}

/* A slow disk, which the copy keeps a long queue at: the guest's requests wait
 * behind it, also when nothing is added any more.  For a while it does nothing.
 */
struct queue {
  double disk, queue_max, quiet; /* bytes per second, bytes, requests */
  double kept;                   /* of these, behind the queue */
  int64_t hangs_us[2];           /* from, to */
  double queue, requests, bytes; /* by now */
};

static void
go_slowly (struct queue *q, struct background *b, struct background_sample *s,
           int64_t end_us)
{
  for (; s->at_us < end_us; s->at_us += TICK_US) {
    const double most = b->limit > 0 ? b->limit * TICK_US / 1e6 : q->queue_max;
    const bool hangs = s->at_us >= q->hangs_us[0] && s->at_us < q->hangs_us[1];
    const double does = hangs ? 0 : q->disk * TICK_US / 1e6;
    double adds = background_rests (b) ? 0 : q->queue_max - q->queue;

    adds = adds < most ? adds : most;
    q->queue += adds;
    q->bytes += adds;
    q->requests += q->quiet * (q->queue > 0 ? q->kept : 1) * TICK_US / 1e6;
    q->queue -= q->queue < does ? q->queue : does;
    s->requests = (uint64_t)q->requests;
    s->bytes = (uint64_t)q->bytes;
    s->moving = q->queue > 0;
    if (s->at_us >= b->next_us)
      background_note (b, s);
  }
}

static void
test_queue (void)
{
  struct queue q = { 8 * MiB, 4 * MiB, 600, 0.3, { 0 }, 0, 0, 0 };
  struct background_sample s = { .at_us = 1 };
  struct background b;

  background_init (&b, BACKGROUND_MAX);
  go_slowly (&q, &b, &s, 20000000);
  CU_ASSERT (b.share < 0.95 || b.limit > 0);
  CU_ASSERT (b.limit > 0 && b.limit < q.disk);
  CU_ASSERT (b.pace < 1.1 * q.disk);
}

/* That it did nothing for some seconds once is no reason never to look again
 * what the copy takes from guests.
 */
static void
test_hung_once (void)
{
  static const int64_t hung_us[] = { 3000000, 6000000, 20000000 };

  for (size_t i = 0; i < sizeof hung_us / sizeof hung_us[0]; i++) {
    struct queue q = { 8 * MiB, 4 * MiB, 600, 1, { 4000000 }, 0, 0, 0 };
    struct background_sample s = { .at_us = 1 };
    struct background b;

    q.hangs_us[1] = q.hangs_us[0] + hung_us[i];
    background_init (&b, DEFAULT);
    go_slowly (&q, &b, &s, q.hangs_us[1]);
    CU_ASSERT_EQUAL (b.limit, 0);
    q.kept = 0.3;
    go_slowly (&q, &b, &s, q.hangs_us[1] + 15000000);
    CU_ASSERT (b.limit > 0);
  }
}

/* A guest that writes much keeps no share that makes the copy fall behind it,
 * the less so where it is mirrored; but if the guest is all that counts.
 */
static void
test_ahead (void)
{
  static const struct {
    unsigned wished;
    bool mirrored;
    double times;
  } asked[] = {
    { 1, false, 1.98 }, { DEFAULT, false, 1 },
    { 75, false, 0.5 }, { BACKGROUND_MAX, false, 0 },
    { 1, true, 3.96 },  { DEFAULT, true, 2 },
    { 75, true, 1 },    { BACKGROUND_MAX, true, 0 },
  };
  struct background_sample s;
  struct background b;

  for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
    s = (struct background_sample){ .at_us = 1,
                                    .touch_rate = 100 * MiB,
                                    .mirrored = asked[i].mirrored };
    background_init (&b, asked[i].wished);
    background_note (&b, &s);
    for (unsigned k = 0; k < 60; ++k) { /* it loses nearly all, at any pace */
      const bool rested = background_rests (&b);
      const double us = b.next_us - s.at_us;

      s.at_us = b.next_us;
      s.requests += us / (rested ? 100 : 10000) + 4;
      s.bytes += rested ? 0 : us * (b.limit > 0 ? b.limit : FASTEST) / 1e6;
      background_note (&b, &s);
    }
    CU_ASSERT (b.limit > 0);
    CU_ASSERT (b.limit >= 1.9 * asked[i].times * 100 * MiB);
    CU_ASSERT (b.limit < 2 * asked[i].times * 100 * MiB + 20 * MiB);
  }
}

/* What hangs holds up the other disks for some seconds, not for ever. */
static void
test_hangs (void)
{
  struct background_sample s = { .at_us = 1, .moving = true };
  struct background b;
  unsigned i, rested = 0;

  background_init (&b, BACKGROUND_MAX);
  for (i = 0; i < 20000; i++) {
    s.at_us += TICK_US;
    s.requests++;
    s.bytes += background_rests (&b) ? 0 : 100;
    if (s.at_us >= b.next_us)
      background_note (&b, &s);
    CU_ASSERT (b.stage != BACKGROUND_RESTS);
    rested += background_rests (&b);
  }
  CU_ASSERT (rested < 5700); /* five seconds, then half a second, then less */
  CU_ASSERT_EQUAL (b.judged, 0);
}

/* So does what took long to end once, and has hung at each look since. */
static void
test_hangs_slow (void)
{
  struct queue q = { 1 * MiB, 3 * MiB, 600, 1, { 0 }, 0, 0, 0 };
  struct background_sample s = { .at_us = 1 };
  struct background b;
  int64_t end_us, held_us = 0;

  background_init (&b, DEFAULT);
  while (b.rests == 0)
    go_slowly (&q, &b, &s, s.at_us + TICK_US);
  CU_ASSERT (b.settled_us > 2000000);
  end_us = s.at_us + 200000000;
  q.hangs_us[0] = s.at_us;
  q.hangs_us[1] = end_us;
  while (s.at_us < end_us) {
    go_slowly (&q, &b, &s, s.at_us + TICK_US);
    held_us += background_rests (&b) ? TICK_US : 0;
  }
  CU_ASSERT (held_us > 0);
  CU_ASSERT (held_us < 200000000 * 0.35);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "guests keep their share", test_share },
    { "slow guests, too", test_slow_guests },
    { "guests that do too little", test_too_little },
    { "and soon", test_soon },
    { "what is before the copying", test_begins },
    { "a slow beginning", test_begins_slowly },
    { "a limit that is wrong", test_recovers },
    { "much slower", test_far },
    { "what is kept, in the mean", test_kept_beside },
    { "no harm, no limit", test_no_need },
    { "guests that are mirrored", test_mirrored },
    { "mirrored, and the load changes", test_mirrored_changes },
    { "not asked for", test_off },
    { "a guest that leaves", test_leaves },
    { "it is given back soon", test_leaves_soon },
    { "a guest that rests itself", test_rests_itself },
    { "the load changes", test_load_changes },
    { "holes", test_holes },
    { "the copy goes on", test_floor },
    { "bytes that are given back", test_given_back },
    { "a proxy that counts anew", test_counts_anew },
    { "wished anew", test_wished_anew },
    { "a slow disk's queue", test_queue },
    { "a slow disk that hung once", test_hung_once },
    { "ahead of who writes much", test_ahead },
    { "what hangs", test_hangs },
    { "what was slow, and hangs", test_hangs_slow },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("background", tests);
}
