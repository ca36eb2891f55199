/* SPDX-License-Identifier: BSD-3-Clause */

#include <math.h>

#include "policy/background.h"

/* The constants are argued for in docs/policy.md. */
#define SHARE_LOWEST 0.5
#define SHARE_HIGHEST 0.97
#define BEGIN_US 10000
#define BEGIN_BYTES (UINT64_C (8) * 1024 * 1024)
#define BEGIN_MOST_US 500000
#define COPY_FIRST_US 60000
#define COPY_US 300000
#define COPY_UNHARMED_US 2000000
#define COPY_IDLE_US 1000000
#define COPY_AFTER_VAIN 2 /* times as long as was waited for nothing */
#define SETTLE_US 8000
#define SETTLE_MOST_US 5000000
#define REST_US 30000
#define SLOW_MAX 8         /* times as long, for who does little */
#define SLOW_ENDS 80       /* requests in the rests that count */
#define UNTOLD_MAX 6       /* rests in a row that showed too little */
#define EAGER 4            /* judgements, after which it is looked less often */
#define EAGER_RESTS 12     /* the same, where too little is seen to judge */
#define REQUESTS_MIN 4     /* in a stretch of copying: a guest is there */
#define REQUESTS_JUDGED 20 /* in the rests that count */
#define QUIET_KEPT 0.8
#define BUSY_KEPT 0.6
#define STEP_DOWN 0.25
#define STEP_UP 1.5
#define SMALL_STEP 1.33
#define CLEAR 3
#define CLEARLY 0.1 /* more than was aimed at */
#define STEP_CLEAR 2
#define FAR 2 /* from the pace that was; what was beside that is no guide */
#define LIMIT_MIN (4.0 * 1024 * 1024) /* bytes per second */
#define SLOWEST 64
#define LOSS_MIN 0.01
#define AHEAD 2          /* of what guests touch */
#define AHEAD_MIRRORED 4 /* the same, while that is mirrored */
#define HUNG_MAX 8
#define SHARES 8
#define MIRRORED_RESTS 3
#define MIRROR_KEEPS 0.8 /* of what guests do; if it seems less, it is that */

void
background_init (struct background *b, unsigned background)
{
  const double part = (double)background / BACKGROUND_MAX;

  *b = (struct background){
    .wished = background,
    .target = background == 0
                ? 0
                : SHARE_LOWEST + part * (SHARE_HIGHEST - SHARE_LOWEST),
    .stage = BACKGROUND_BEGINS,
    .slow = 1,
    .share = 1,
  };
}

void
background_begin_anew (struct background *b, unsigned background)
{
  const struct background before = *b;

  background_init (b, background);
  b->alone = before.alone;
  b->mirrored = before.mirrored;
}

bool
background_rests (const struct background *b)
{
  return b->stage == BACKGROUND_SETTLES || b->stage == BACKGROUND_RESTS;
}

static void
add (struct background_rate *r, double kept, uint64_t requests, int64_t us)
{
  r->requests = r->requests * kept + (double)requests;
  r->us = r->us * kept + (double)us;
}

static double
greater (double a, double b)
{
  return a > b ? a : b;
}

static double
between (double x, double least, double most)
{
  return x < least ? least : x > most ? most : x;
}

/* The loss grows about as the pace does: so far from the pace that was, within
 * the bounds of a step.
 */
static double
next_limit (const struct background *b)
{
  const double loss = 1 - b->share > LOSS_MIN ? 1 - b->share : LOSS_MIN;
  const double step = (1 - b->target) / loss;

  if (b->clear >= CLEAR || (b->clear > 0 && b->judged <= EAGER))
    return b->pace * between (step, 1, STEP_CLEAR); /* it is no chance */
  if (b->judged > EAGER) /* chance must not swing it, nor have a direction */
    return b->pace * between (sqrt (step), 1 / SMALL_STEP, SMALL_STEP);
  return b->pace * between (step, STEP_DOWN, STEP_UP);
}

/* The slowest that may be asked for.  What is ahead of guests, if they were
 * left alone, counts less the more the guest comes first.
 */
static double
least_limit (const struct background *b, const struct background_sample *s)
{
  const double left = (double)(BACKGROUND_MAX - b->wished) / BACKGROUND_MAX;
  const double ahead = left * (b->mirrored ? AHEAD_MIRRORED : AHEAD);

  return greater (ahead * (double)s->touch_rate /
                    greater (b->share, SHARE_LOWEST),
                  greater (LIMIT_MIN, b->best / SLOWEST));
}

static bool
tells (const struct background_rate *r)
{
  return r->requests >= REQUESTS_JUDGED && r->us > 0;
}

static double
ratio_of (const struct background_rate *r, const struct background_rate *of)
{
  return r->requests / r->us / (of->requests / of->us);
}

/* What guests keep beside the copy of what they do if nothing is done to them.
 * What they did before the mirror may be long ago: that they do less in the
 * rests now is the mirror's doing only as far as MIRROR_KEEPS, or a guest that
 * has become calm would hold up the copy for good; and one that does more now
 * did not do enough then.
 */
static double
share_kept (const struct background *b)
{
  const double of_quiet = ratio_of (&b->busy, &b->quiet);

  if (!b->mirrored || !tells (&b->alone))
    return of_quiet;
  return of_quiet * between (ratio_of (&b->quiet, &b->alone), MIRROR_KEEPS, 1);
}

bool
background_knows_quiet (const struct background *b)
{
  return b->target == 0 || tells (&b->quiet) ||
         (b->mirrored && tells (&b->alone)) || b->rests >= EAGER_RESTS;
}

static unsigned
hundredths (double part)
{
  const double of = 100 * part;

  return of < 1 ? 1 : of > 100 ? 100 : (unsigned)of;
}

unsigned
background_kept_beside (const struct background *b)
{
  return b->mirrored || b->judged == 0 ? 0 : hundredths (b->shares);
}

unsigned
background_kept_mirrored (const struct background *b)
{
  if (!b->mirrored || b->rests < MIRRORED_RESTS || !tells (&b->alone) ||
      !tells (&b->quiet))
    return 0;
  return hundredths (ratio_of (&b->quiet, &b->alone));
}

static void
judge (struct background *b, const struct background_sample *s)
{
  double limit;

  if (!tells (&b->quiet) || b->busy.us <= 0)
    return;
  b->judged++;
  b->share = share_kept (b);
  if (b->share > 1)
    b->share = 1;
  b->shares +=
    (b->share - b->shares) / (b->judged < SHARES ? b->judged : SHARES);
  b->clear = b->share > b->target + CLEARLY ? b->clear + 1 : 0;
  if (b->pace <= 0)
    return; /* nothing was moved that could be moved more slowly */
  limit = next_limit (b);
  if (b->share >= b->target && (b->limit == 0 || limit < b->limit))
    return; /* no harm is done; a slower pace was something else's doing */
  if (limit < b->pace / FAR)
    b->busy = (struct background_rate){ 0 };
  if (b->limit > 0 && b->pace * STEP_UP < b->limit && limit > b->limit)
    b->limit = 0; /* something else holds it up */
  else
    b->limit = greater (limit, least_limit (b, s));
}

static void
go_on (struct background *b, enum background_stage stage,
       const struct background_sample *s, int64_t us)
{
  b->stage = stage;
  b->last = *s;
  b->next_us = s->at_us + us;
  if (stage == BACKGROUND_COPIES)
    b->begun_us = s->at_us;
}

/* Whether nobody is seen, with whom a rest would tell something. */
static bool
is_alone (const struct background *b, uint64_t requests)
{
  return b->target == 0 || (requests < REQUESTS_MIN && b->limit == 0);
}

/* None also where they count from 0 again: a proxy that has begun anew. */
static uint64_t
requests_of (const struct background *b, const struct background_sample *s)
{
  return s->requests > b->last.requests ? s->requests - b->last.requests : 0;
}

static void
note_seen (struct background *b, const struct background_sample *s)
{
  if (s->requests >= b->seen.requests + REQUESTS_MIN ||
      s->requests < b->seen.requests)
    b->seen = *s;
}

/* Guests that have left leave no limit behind, and what they did is no measure
 * for those that come: it is found anew, and soon.
 */
static void
forget_guests (struct background *b)
{
  b->quiet = b->busy = (struct background_rate){ 0 };
  b->limit = 0;
  b->share = 1;
  b->slow = 1;
  b->judged = b->rests = b->clear = b->untold = 0;
}

/* Who does little is looked at for longer; but not for ever in vain, and who
 * cannot be judged limits nothing.
 */
static void
choose_length (struct background *b)
{
  if (tells (&b->quiet)) {
    b->untold = 0;
    if (b->slow > 1 && b->quiet.requests >= SLOW_ENDS)
      b->slow /= 2;
  }
  else if (++b->untold < UNTOLD_MAX)
    b->slow = b->slow < SLOW_MAX ? 2 * b->slow : SLOW_MAX;
  else {
    b->untold = UNTOLD_MAX;
    b->slow = 1;
    b->limit = 0;
    b->judged = b->clear = 0;
  }
}

/* A part of the stretch of copying.  None of what was taken where more was
 * given back.
 */
static void
add_busy (struct background *b, double kept, const struct background_sample *s)
{
  const int64_t us = s->at_us - b->last.at_us;

  add (&b->busy, kept, requests_of (b, s), us);
  b->moved += s->bytes > b->last.bytes ? (double)(s->bytes - b->last.bytes) : 0;
  b->moved_us += us;
}

/* What is done before the copying has got going, as asking where there are
 * holes, takes from guests what no slower copying gives back.
 */
static void
note_begin (struct background *b, const struct background_sample *s)
{
  if (b->next_us == 0) /* the first */
    b->last = *s;
  if (s->bytes >= b->last.bytes + BEGIN_BYTES ||
      s->at_us - b->last.at_us >= BEGIN_MOST_US)
    go_on (b, BACKGROUND_COPIES, s, COPY_FIRST_US);
  else
    b->next_us = s->at_us + BEGIN_US;
}

/* The stretch of copying is over once a guest was seen.  There may be one that
 * hardly gets anything done, so it is waited for.
 */
static void
note_copied (struct background *b, const struct background_sample *s)
{
  const int64_t us = s->at_us - b->last.at_us;

  if (is_alone (b, requests_of (b, s))) {
    if (us >= COPY_IDLE_US)
      b->last = *s;
    b->next_us = s->at_us + COPY_FIRST_US;
    return;
  }
  b->moved = b->moved_us = 0;
  b->settles_us = s->at_us;
  b->busy_before = b->busy;
  add_busy (b, BUSY_KEPT, s);
  go_on (b, BACKGROUND_SETTLES, s, SETTLE_US);
}

/* What hangs must not hold up other disks, so each time in a row it is waited
 * for half as long; but what is only slow ends in twice the time that it has
 * taken before.  If it was slow, and hangs, what is copied between makes up for
 * that.
 */
static bool
is_worth_waiting (const struct background *b, int64_t settles_us)
{
  return b->moved_us < SETTLE_MOST_US / (1 << b->hung) ||
         (settles_us < 2 * b->settled_us && settles_us < SETTLE_MOST_US);
}

/* The rest begins.  One that would come too late tells nothing. */
static void
note_settled (struct background *b, const struct background_sample *s)
{
  const int64_t us = s->at_us - b->settles_us;

  if (s->moving) {
    add_busy (b, 1, s);
    if (is_worth_waiting (b, us)) {
      go_on (b, BACKGROUND_SETTLES, s, SETTLE_US);
      return;
    }
    b->hung += b->hung < HUNG_MAX;
    go_on (b, BACKGROUND_COPIES, s,
           (int64_t)greater (COPY_UNHARMED_US, COPY_AFTER_VAIN * (double)us));
    return;
  }
  b->hung = 0;
  b->settled_us = us > b->settled_us ? us : b->settled_us;
  b->pace = b->moved_us > 0 ? b->moved * 1e6 / b->moved_us : 0;
  b->best = greater (b->best, b->pace);
  go_on (b, BACKGROUND_RESTS, s, b->slow * REST_US);
}

/* Whether guests do much more (1) or much less (-1) in this rest than in those
 * before, and it is no chance.
 */
static int
compare_rest (const struct background *b, double requests, double us)
{
  const double before =
    b->quiet.us > 0 ? b->quiet.requests / b->quiet.us * us : 0;

  if (before >= REQUESTS_JUDGED && requests * FAR < before)
    return -1;
  return before > 0 && requests >= REQUESTS_JUDGED && requests > before * FAR;
}

/* So twice in a row, guests do something else now: what is forgotten faster
 * beside the copying than of the rests would look like its doing.
 */
static void
note_change (struct background *b, double requests, double us)
{
  const int change = compare_rest (b, requests, us);

  if (change != 0 && change == b->change) {
    b->quiet = (struct background_rate){ 0 };
    b->busy.requests -= BUSY_KEPT * b->busy_before.requests;
    b->busy.us -= BUSY_KEPT * b->busy_before.us;
  }
  b->change = change;
}

/* That nobody was there, neither beside the copying nor in the rest, is none of
 * the copy's doing: such a look counts for nothing.
 */
static void
note_rested (struct background *b, const struct background_sample *s)
{
  const uint64_t requests = requests_of (b, s);
  const int64_t us = s->at_us - b->last.at_us;

  b->rests++;
  if (s->at_us - b->seen.at_us >= COPY_IDLE_US) {
    forget_guests (b);
    return;
  }
  if (b->seen.at_us <= b->begun_us) {
    b->busy = b->busy_before;
    return;
  }
  note_change (b, (double)requests, (double)us);
  add (&b->quiet, QUIET_KEPT, requests, us);
  judge (b, s);
  choose_length (b);
}

static int64_t
stretch_us (const struct background *b)
{
  if (b->judged < EAGER && b->rests < EAGER_RESTS)
    return COPY_FIRST_US;
  if (b->limit > 0 || (b->judged > 0 && b->clear == 0))
    return COPY_US;
  return COPY_UNHARMED_US;
}

/* The stretch was partly this and partly that. */
static void
note_mirror (struct background *b, const struct background_sample *s)
{
  b->mirrored = s->mirrored;
  if (b->mirrored)
    b->alone = b->quiet;
  b->quiet = b->mirrored ? (struct background_rate){ 0 } : b->alone;
  b->busy = (struct background_rate){ 0 };
  b->judged = b->rests = b->untold = 0;
  go_on (b, BACKGROUND_COPIES, s, COPY_FIRST_US);
}

void
background_note (struct background *b, const struct background_sample *s)
{
  note_seen (b, s);
  if (s->mirrored != b->mirrored) {
    note_mirror (b, s);
    return;
  }
  switch (b->stage) {
  case BACKGROUND_BEGINS:
    note_begin (b, s);
    break;
  case BACKGROUND_COPIES:
    note_copied (b, s);
    break;
  case BACKGROUND_SETTLES:
    note_settled (b, s);
    break;
  case BACKGROUND_RESTS:
    note_rested (b, s);
    go_on (b, BACKGROUND_COPIES, s, b->slow * stretch_us (b));
    break;
  }
}
