/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "policy/measures.h"
#include "units.h"

/* Each can change only once in a decision. */
_Static_assert(POLICY_CHANGES_MAX >= 5, "mirror twice, and the others");

/* ---- what is said ------------------------------------------------------ */

static void __attribute__ ((format (printf, 4, 5)))
tell (const struct policy_snapshot *s, struct policy_decision *d,
      const char *what, const char *reason, ...)
{
  struct policy_change *c;
  va_list args;

  if (d->nr_changes == POLICY_CHANGES_MAX)
    return;
  c = &d->changes[d->nr_changes++];
  c->what = what;
  c->would = s->explain;
  va_start (args, reason);
  vsnprintf (c->reason, sizeof c->reason, reason, args);
  va_end (args);
}

#define BYTES(n) units_format_bytes ((char[UNITS_TEXT_MAX]){ 0 }, n)
#define MS(n) units_format_ms ((char[UNITS_TEXT_MAX]){ 0 }, n)

/* ---- what is allowed --------------------------------------------------- */

static bool
may_mirror (const struct policy_snapshot *s)
{
  return s->converge == CONVERGE_AUTO || s->converge == CONVERGE_MIRROR;
}

/* Not as long as nobody asks for the end. */
static bool
may_throttle (const struct policy_snapshot *s)
{
  return !s->wait &&
         (s->converge == CONVERGE_AUTO || s->converge == CONVERGE_THROTTLE);
}

static bool
is_patient (const struct policy *p, const struct policy_snapshot *s)
{
  return p->asked_since_us == 0 ||
         (uint64_t)(s->now_us - p->asked_since_us) / 1000 < s->patience_ms;
}

static bool
has_late_limit (const struct policy_snapshot *s)
{
  return s->max_pause_late_ms > s->max_pause_ms;
}

uint64_t
measures_max_pause_ms (const struct policy *p, const struct policy_snapshot *s)
{
  return has_late_limit (s) && !is_patient (p, s) && !s->explain
           ? s->max_pause_late_ms
           : s->max_pause_ms;
}

/* Where nothing is done it would change nothing. */
uint64_t
measures_expected (const struct policy *p, const struct policy_snapshot *s,
                   uint64_t predicted)
{
  if (predicted == FORECAST_NEVER || s->converge == CONVERGE_OFF || s->explain)
    return predicted;
  return predicted + predicted * p->missed / POLICY_MISSED_DIVISOR;
}

uint64_t
measures_copy_rate (const struct policy_snapshot *s)
{
  uint64_t speed = s->copy_rate;

  if (s->rate > 0 && s->rate < speed)
    speed = s->rate;
  return speed > s->pace ? speed : s->pace;
}

/* ---- the mirror -------------------------------------------------------- */

/* What is only explained has had its effect. */
static struct mirror_input
mirror_input (const struct policy *p, const struct policy_snapshot *s)
{
  return (struct mirror_input){
    .state = !s->explain        ? s->mirror
             : p->mirror.wanted ? MIRROR_ON
                                : MIRROR_OFF,
    .demotions = s->demotions,
    .refused = s->mirror_refused,
    .destination_us = s->destination_us,
    .max_pause_ms = s->max_pause_ms,
    .now_us = s->now_us,
  };
}

static enum mirror_verdict
judge (const struct policy *p, const struct policy_snapshot *s)
{
  const struct mirror_input in = mirror_input (p, s);

  return mirror_judge (&p->mirror, &in);
}

static bool
is_mirrored (const struct policy *p, const struct policy_snapshot *s)
{
  return p->mirror.wanted && mirror_input (p, s).state == MIRROR_ON;
}

static void
restart_course (struct policy *p)
{
  p->course = (struct policy_course){ 0 };
}

static uint64_t
copy_us (uint64_t bytes, uint64_t rate)
{
  const double us = rate > 0 ? (double)bytes * 1e6 / (double)rate : 0;

  return us < 1e15 ? (uint64_t)us : (uint64_t)1e15;
}

/* What the next round leaves is what guests touch meanwhile.  After a round it
 * is seen; after the bulk, which leaves all that was touched during it, only
 * the rates tell.
 */
static bool
shrinks_slowly (const struct policy *p, const struct policy_snapshot *s)
{
  if (p->left_bytes > 0)
    return s->remaining_bytes > p->left_bytes / 2;
  return policy_outlook (s).touch_rate > measures_copy_rate (s) / 2;
}

/* Rounds shrink, but each of those to come is long, too, and with the mirror
 * the next one is the last.
 */
static bool
is_long_way (const struct policy *p, const struct policy_snapshot *s)
{
  return s->bulk_end_us != 0 && shrinks_slowly (p, s) &&
         copy_us (s->remaining_bytes, s->copy_rate) > MEASURES_LONG_US;
}

/* How fast rounds will copy, as far as the bulk tells. */
static uint64_t
round_rate (const struct policy_snapshot *s)
{
  return measures_copy_rate (s) / MEASURES_SCATTERED;
}

static uint64_t
touched (const struct policy *p, const struct policy_snapshot *s)
{
  const uint64_t seen = policy_outlook (s).touch_rate;

  return seen > p->growth.rate ? seen : p->growth.rate;
}

/* Whether guests do less as soon as something takes longer. */
static bool
waits (const struct policy_snapshot *s)
{
  return s->kept_beside > 0 && s->kept_beside < MEASURES_WAITING_PERCENT;
}

static bool
is_beyond_rounds (uint64_t touch, const struct policy_snapshot *s)
{
  return touch > MEASURES_WAITING_FACTOR * round_rate (s);
}

/* In the bulk: what guests write where it has been is copied by rounds after
 * it, piece by piece, and a mirrored write costs less than that.  But each of
 * them waits for the destination: so only where that is near, and where guests
 * do not come first by more than usual.  What they touch again and again is
 * copied once.  Who waits for each write is slowed down by as much as it takes,
 * now or in the rounds, so only where those would take much longer than the
 * bulk.  If it fails the next attempts are for the rounds, which may
 * have no other way.  The first heartbeat may come when next to nothing was
 * copied, at a speed that tells nothing, and a mirror that is on stays on.
 */
static bool
is_cheaper_mirrored (const struct policy *p, const struct policy_snapshot *s)
{
  const uint64_t rate = round_rate (s), touch = touched (p, s);
  const uint64_t left_us = copy_us (s->remaining_bytes, measures_copy_rate (s));
  const double comes = (double)touch * (double)left_us / 1e6;

  if (s->bulk_end_us != 0 || s->rate != 0 || p->mirror.failures > 0 ||
      s->background > MEASURES_EARLY_BACKGROUND || s->destination_us == 0 ||
      s->destination_us > MEASURES_NEAR_US || !p->growth.known ||
      !s->quiet_known)
    return false;
  if (waits (s) && !is_beyond_rounds (touch, s))
    return false;
  return touch > rate / MEASURES_EARLY_DIVISOR &&
         copy_us ((uint64_t)comes, rate) > MEASURES_LONG_US;
}

/* In the bulk guests are to keep a share of what they do alone, and what the
 * mirror takes no pace of the copy gives back.  Where rounds do not get ahead
 * of guests it has to come all the same, and costs less now; but if the guest
 * is first.
 */
static bool
is_dear (const struct policy *p, const struct policy_snapshot *s)
{
  if (s->bulk_end_us != 0 || !is_mirrored (p, s) || s->kept_mirrored == 0)
    return false;
  if (s->background > MEASURES_EARLY_BACKGROUND)
    return s->kept_mirrored < MEASURES_KEPT_FIRST_PERCENT;
  return s->kept_mirrored < MEASURES_KEPT_PERCENT &&
         !is_beyond_rounds (p->touched_alone, s);
}

/* Nothing that is mirrored is hot. */
static void
begin_mirror (struct policy *p, const struct policy_snapshot *s)
{
  mirror_begin (&p->mirror, s->now_us);
  p->touched_alone = touched (p, s);
  p->mirror_was_on = false;
  p->calm_since_us = 0;
  p->slow_rounds = p->shorten_rounds = 0;
  p->measures.mirror = true;
  p->measures.hot_last = false;
  restart_course (p);
}

static void
tell_too_fast (const struct policy *p, const struct policy_snapshot *s,
               struct policy_decision *d)
{
  tell (s, d, "mirror",
        "%s (%s left; %s/s become dirty, %s/s are copied): guests' writes go "
        "to the destination as well",
        p->course.stale > 0          ? "rounds do not shrink"
        : is_long_way (p, s)         ? "rounds shrink slowly"
        : is_cheaper_mirrored (p, s) ? "the rounds after this would take long"
                                     : "the copy does not get ahead of guests",
        BYTES (s->remaining_bytes), BYTES (s->dirty_rate),
        BYTES (measures_copy_rate (s)));
}

static void
end_mirror (struct policy *p, const struct policy_snapshot *s,
            struct policy_decision *d, const char *why)
{
  mirror_end (&p->mirror);
  tell (s, d, "mirror", "guests' writes are tracked again: %s", why);
  restart_course (p);
}

static void
tell_failure (const struct policy *p, const struct policy_snapshot *s,
              struct policy_decision *d)
{
  const uint64_t wait_ms = mirror_wait_ms (s->max_pause_ms);

  if (p->mirror.refused)
    tell (s, d, "mirror", "guests' writes cannot be mirrored here");
  else if (judge (p, s) == MIRROR_CANNOT)
    tell (s, d, "mirror",
          "mirroring has failed %u times (an error, or no answer within %s): "
          "guests' writes are tracked, and it is not tried again",
          p->mirror.failures, MS (wait_ms));
  else
    tell (s, d, "mirror",
          "mirroring has failed (an error, or no answer within %s): guests' "
          "writes are tracked, and it is tried again in %s",
          MS (wait_ms),
          MS ((uint64_t)(p->mirror.not_before_us - s->now_us) / 1000));
}

/* Nothing else would tell why it is not begun. */
static void
tell_slow (const struct policy_snapshot *s, struct policy_decision *d)
{
  tell (s, d, "mirror",
        "guests' writes are not mirrored now: the fastest write of the copy "
        "took the destination %s, and a guest would wait for %s at most",
        MS (s->destination_us / 1000), MS (mirror_wait_ms (s->max_pause_ms)));
}

static void
note_mirror (struct policy *p, const struct policy_snapshot *s,
             struct policy_decision *d)
{
  const struct mirror_input in = mirror_input (p, s);

  if (mirror_note (&p->mirror, &in)) {
    tell_failure (p, s, d);
    restart_course (p);
  }
  if (p->mirror.wanted && !may_mirror (s))
    end_mirror (p, s, d, "--converge does not allow more");
  if (!p->mirror_was_on && is_mirrored (p, s)) {
    p->mirror_was_on = true;
    restart_course (p); /* what was before says nothing of now */
  }
}

/* Its place is after the bulk then. */
static void
spare_guests (struct policy *p, const struct policy_snapshot *s,
              struct policy_decision *d)
{
  char why[POLICY_REASON_MAX];

  if (!is_dear (p, s))
    return;
  snprintf (why, sizeof why,
            "with nothing copied they did %u %% of what they did before",
            s->kept_mirrored);
  p->was_dear = true;
  end_mirror (p, s, d, why);
}

/* --wait may be for hours: each write of them costs the guest. */
static void
calm_mirror (struct policy *p, const struct policy_snapshot *s,
             struct policy_decision *d)
{
  const uint64_t little = measures_copy_rate (s) / 100 * MEASURES_CALM_PERCENT;

  if (!s->wait || !is_mirrored (p, s) || s->touch_rate > little)
    p->calm_since_us = 0;
  else if (p->calm_since_us == 0)
    p->calm_since_us = s->now_us;
  else if (s->now_us - p->calm_since_us >= MEASURES_CALM_US)
    end_mirror (p, s, d, "guests write little now");
}

/* ---- the throttle ------------------------------------------------------ */

static bool
is_news (uint64_t said, uint64_t now)
{
  const uint64_t more = said > now ? said - now : now - said;

  return (said == 0) != (now == 0) || more > said / 100 * MEASURES_TELL_PERCENT;
}

static void
tell_throttle (struct policy *p, const struct policy_snapshot *s,
               struct policy_decision *d)
{
  const uint64_t limit = p->throttle.bytes_per_second;

  if (!is_news (p->throttle_said, limit))
    return;
  p->throttle_said = limit;
  if (limit == 0)
    tell (s, d, "throttle", "guests may write as fast as they like again");
  else
    tell (s, d, "throttle",
          "guests may write %s/s: %s/s become dirty, %s/s are copied",
          BYTES (limit), BYTES (s->dirty_rate), BYTES (measures_copy_rate (s)));
}

/* It looks at what is touched, as far as it counts: what becomes dirty is less
 * than that as long as most is dirty already, and would be more at last.
 */
static void
step_throttle (struct policy *p, const struct policy_snapshot *s,
               struct policy_decision *d, bool round_end)
{
  const struct throttle_input in = {
    .write_rate = s->write_rate,
    .dirty_rate = policy_outlook (s).touch_rate,
    .copy_rate = measures_copy_rate (s),
    .floor = s->throttle_floor,
    .needed = p->throttle_needed,
    .round_end = round_end,
    .now_us = s->now_us,
  };

  if (!may_throttle (s)) {
    p->throttle_needed = false;
    p->throttle = (struct throttle){ 0 };
  }
  else
    throttle_step (&p->throttle, &in);
  tell_throttle (p, s, d);
}

/* ---- how it goes ------------------------------------------------------- */

static void
note_outlook (struct policy *p, const struct policy_snapshot *s)
{
  if (policy_outlook (s).verdict != FORECAST_DIVERGES)
    p->diverges_since_us = 0;
  else if (p->diverges_since_us == 0)
    p->diverges_since_us = s->now_us;
}

/* How fast guests come to places that they had not touched. */
static void
note_growth (struct policy *p, const struct policy_snapshot *s)
{
  const int64_t us = s->now_us - p->growth.at_us;
  const uint64_t before = p->growth.guest_bytes;

  if (p->growth.at_us != 0 && us < MEASURES_GROWTH_US)
    return;
  p->growth.rate = 0;
  p->growth.known = p->growth.at_us != 0;
  if (p->growth.known && s->guest_bytes > before)
    p->growth.rate =
      (uint64_t)((double)(s->guest_bytes - before) * 1e6 / (double)us);
  p->growth.guest_bytes = s->guest_bytes;
  p->growth.at_us = s->now_us;
}

static bool
has_diverged (const struct policy *p, const struct policy_snapshot *s)
{
  return p->diverges_since_us != 0 &&
         s->now_us - p->diverges_since_us >= POLICY_OUTRUN_US;
}

/* The bulk counts as a round that leaves the whole disk. */
static void
note_course (struct policy *p, const struct policy_snapshot *s)
{
  const uint64_t best =
    p->course.best_bytes > 0 ? p->course.best_bytes : s->disk_bytes;

  if (s->remaining_bytes <= best / 100 * MEASURES_SHRINK_PERCENT) {
    p->course.best_bytes = s->remaining_bytes;
    p->course.stale = 0;
  }
  else {
    p->course.best_bytes = best;
    p->course.stale++;
  }
}

/* Parts of the destination's blocks are not mirrored, nor what leaves all its
 * chunks dirty (R12): a guest that writes nothing else is tracked all the same,
 * and the rounds that a throttle makes shrink are none of the mirror's merit.
 */
static void
note_share (struct policy *p, const struct policy_snapshot *s,
            struct policy_decision *d)
{
  struct policy_share *share = &p->share;
  const uint64_t mirrored = s->mirrored_writes - share->mirrored;
  const uint64_t all = mirrored + s->not_mirrored_writes - share->not_mirrored;

  if (!is_mirrored (p, s))
    share->small_rounds = 0;
  else if (all < MEASURES_SHARE_WRITES)
    return; /* too few to tell */
  else if (mirrored * 100 < all * MEASURES_SHARE_PERCENT)
    share->small_rounds++;
  else
    share->small_rounds = share->failures = 0;
  share->mirrored = s->mirrored_writes;
  share->not_mirrored = s->not_mirrored_writes;
  if (share->small_rounds < MEASURES_SHARE_ROUNDS || s->explain)
    return;
  share->small_rounds = 0;
  if (p->mirror.failures < share->failures)
    p->mirror.failures = share->failures; /* rounds may be long */
  share->failures++;
  mirror_fail (&p->mirror, s->now_us);
  tell (s, d, "mirror",
        "guests' writes are tracked again: of the last %" PRIu64
        " only %" PRIu64 " were mirrored; the others touch chunks that are "
        "dirty, or parts of the destination's blocks",
        all, mirrored);
  restart_course (p);
}

static bool
calls_for_more (const struct policy *p, const struct policy_snapshot *s)
{
  if (p->course.stale >= MEASURES_STALE_ROUNDS || has_diverged (p, s))
    return true;
  return p->course.stale > 0 && p->diverges_since_us != 0;
}

/* No measure shortens that part of the pause. */
static bool
is_hopeless (const struct policy *p, const struct policy_snapshot *s)
{
  return s->overhead_us >= measures_max_pause_ms (p, s) * 1000;
}

/* As it is predicted it fits; but not as pauses that missed show it to be, nor
 * if next to nothing were copied in it.
 */
static bool
is_only_missed (const struct policy *p, const struct policy_snapshot *s)
{
  const uint64_t limit_ms = measures_max_pause_ms (p, s);

  return s->predicted_ms <= limit_ms &&
         measures_expected (p, s, s->overhead_us + POLICY_SHORT_US) >=
           limit_ms * 1000;
}

static bool
is_mirror_vain (const struct policy *p, const struct policy_snapshot *s)
{
  return is_mirrored (p, s) && !s->explain &&
         p->course.stale >= MEASURES_VAIN_ROUNDS;
}

/* Whatever comes of it, it is not to be waited for. */
static bool
is_mirror_spent (const struct policy *p, const struct policy_snapshot *s)
{
  return !may_mirror (s) || judge (p, s) == MIRROR_CANNOT ||
         p->slow_rounds >= MEASURES_SLOW_ROUNDS || is_mirror_vain (p, s);
}

static bool
is_throttle_spent (const struct policy *p, const struct policy_snapshot *s)
{
  if (!may_throttle (s))
    return true;
  return p->throttle_needed &&
         (s->write_rate == 0 ||
          throttle_is_spent (&p->throttle, s->throttle_floor));
}

/* That it is too slow is noted once a round: the throttle waits for it. */
static void
consider_mirror (struct policy *p, const struct policy_snapshot *s,
                 struct policy_decision *d, bool round_end)
{
  if (!may_mirror (s) || p->mirror.wanted ||
      (p->was_dear && s->bulk_end_us == 0) ||
      (!calls_for_more (p, s) && !is_long_way (p, s) &&
       !is_cheaper_mirrored (p, s)))
    return;
  switch (judge (p, s)) {
  case MIRROR_MAY:
    tell_too_fast (p, s, d);
    begin_mirror (p, s);
    break;
  case MIRROR_SLOW:
    if (round_end && p->slow_rounds++ == 0)
      tell_slow (s, d);
    break;
  case MIRROR_LATER:
  case MIRROR_CANNOT:
    break;
  }
}

/* Once it is there it does its work until the end, or until a mirror does, and
 * pauses do not miss their deadline all the same.
 */
static void
consider_throttle (struct policy *p, const struct policy_snapshot *s)
{
  const bool waits_for_mirror =
    !is_mirror_spent (p, s) && p->mirror.failures < MEASURES_FAILURES;

  if (p->throttle_needed) {
    if (is_mirrored (p, s) && p->course.stale == 0 &&
        p->missed < MEASURES_MISSED)
      p->throttle_needed = false;
    else if (p->course.stale >= MEASURES_STALE_ROUNDS &&
             throttle_is_settled (&p->throttle, s->now_us) &&
             throttle_stricter (&p->throttle))
      p->course.stale = 0;
  }
  else
    p->throttle_needed =
      may_throttle (s) && !waits_for_mirror && calls_for_more (p, s);
}

static void
tell_hot (struct policy *p, const struct policy_snapshot *s,
          struct policy_decision *d)
{
  const uint64_t said = p->hot_said;

  if (said != 0 && (s->now_us - p->hot_said_us < MEASURES_TELL_HOT_US ||
                    (s->hot_bytes < 2 * said && s->hot_bytes > said / 2)))
    return;
  p->hot_said = s->hot_bytes;
  p->hot_said_us = s->now_us;
  tell (s, d, "hot-last",
        "%s were written in each of the last rounds: they "
        "wait for the pause",
        BYTES (s->hot_bytes));
}

/* What is mirrored is not dirtied again, so nothing is hot then. */
static void
consider_hot (struct policy *p, const struct policy_snapshot *s,
              struct policy_decision *d, bool fits)
{
  const bool before = p->measures.hot_last;
  const uint64_t room = s->copy_rate / 1000 * measures_max_pause_ms (p, s) /
                        100 * MEASURES_HOT_PERCENT;

  p->measures.hot_last = s->converge != CONVERGE_OFF && !p->mirror.wanted &&
                         (!fits || s->wait) && s->hot_bytes > 0 &&
                         s->hot_bytes <= room;
  if (p->measures.hot_last && !before)
    tell_hot (p, s, d);
}

/* ---- a pause that fits ------------------------------------------------- */

/* What remains, and what guests make dirty until the gate is shut. */
static uint64_t
copied_in_pause_us (const struct policy_snapshot *s)
{
  const uint64_t ahead = s->dirty_rate / 1000 * POLICY_SHORT_AHEAD_MS;

  return copy_us (s->remaining_bytes + ahead, s->copy_rate);
}

/* What the mirror adds to a write has to be little beside what it saves, and
 * that more than its flush.  Round trips do not count: they were measured
 * beside the copying, and behind it they take many times as long as in the
 * pause.
 */
static bool
is_worth_mirroring (const struct policy_snapshot *s)
{
  const uint64_t us = copied_in_pause_us (s);

  return us > POLICY_SHORT_US && us > s->flush_us &&
         s->destination_us < us / POLICY_SHORT_DIVISOR;
}

static bool
is_mirror_starting (const struct policy *p, const struct policy_snapshot *s)
{
  return p->mirror.wanted && mirror_input (p, s).state != MIRROR_ON;
}

bool
measures_shorten (struct policy *p, const struct policy_snapshot *s,
                  struct policy_decision *d)
{
  if (!may_mirror (s) || s->explain || (s->wait && !s->finish_wished) ||
      s->rate != 0 /* which what is mirrored does not obey */ ||
      !is_worth_mirroring (s))
    return false;
  if (is_mirror_starting (p, s))
    return true;
  if (p->mirror.wanted) /* what was dirty before is copied now */
    return p->shorten_rounds++ < POLICY_SHORT_ROUNDS;
  if (judge (p, s) != MIRROR_MAY)
    return false;
  tell (s, d, "mirror",
        "%s would be copied in the pause: guests' writes go to the "
        "destination as well, so that it is shorter",
        BYTES (s->remaining_bytes));
  begin_mirror (p, s);
  return true;
}

/* What is copied in it may be what makes it miss. */
bool
measures_missed (struct policy *p, const struct policy_snapshot *s,
                 struct policy_decision *d)
{
  if (is_hopeless (p, s) || s->explain || p->missed < MEASURES_MISSED)
    return false;
  if (may_mirror (s) && !p->mirror.wanted && judge (p, s) == MIRROR_MAY) {
    tell (s, d, "mirror",
          "pauses miss their deadline: guests' writes go to the destination "
          "as well");
    begin_mirror (p, s);
  }
  else if (may_throttle (s)) {
    if (p->throttle_needed && throttle_is_settled (&p->throttle, s->now_us))
      throttle_stricter (&p->throttle);
    p->throttle_needed = true;
  }
  return is_mirror_starting (p, s) ||
         (p->throttle_needed && !is_throttle_spent (p, s));
}

/* ---- all of it --------------------------------------------------------- */

static void
note_patience (struct policy *p, const struct policy_snapshot *s,
               struct policy_decision *d)
{
  const bool late = has_late_limit (s);

  if (s->wait || s->bulk_end_us == 0)
    p->asked_since_us = 0;
  else if (p->asked_since_us == 0)
    p->asked_since_us = s->now_us;
  p->measures.max_pause_ms = measures_max_pause_ms (p, s);
  if (late && !is_patient (p, s) && !p->late_said)
    tell (s, d, "max-pause",
          "the pause did not fit for %s: it may be %s long now, not %s",
          MS (s->patience_ms), MS (s->max_pause_late_ms), MS (s->max_pause_ms));
  p->late_said = late && !is_patient (p, s);
}

/* What may call for a mirror before the end of a round.  Of the first one after
 * the bulk it is known that it is long, and not what it will leave.
 */
static bool
calls_in_round (const struct policy *p, const struct policy_snapshot *s)
{
  return has_diverged (p, s) || is_cheaper_mirrored (p, s) ||
         (p->left_bytes == 0 && is_long_way (p, s));
}

void
measures_beat (struct policy *p, const struct policy_snapshot *s,
               struct policy_decision *d, bool round_end)
{
  note_patience (p, s, d);
  note_outlook (p, s);
  note_mirror (p, s, d);
  spare_guests (p, s, d);
  calm_mirror (p, s, d);
  step_throttle (p, s, d, round_end);
  note_growth (p, s);
  if (calls_in_round (p, s) && !is_hopeless (p, s))
    consider_mirror (p, s, d, false);
  p->measures.mirror = p->mirror.wanted;
  p->measures.mirror_wait_ms = mirror_wait_ms (s->max_pause_ms);
  p->measures.throttle = p->throttle.bytes_per_second;
}

bool
measures_round (struct policy *p, const struct policy_snapshot *s,
                struct policy_decision *d)
{
  const bool late = has_late_limit (s) && is_patient (p, s);
  bool more = false;

  if (!is_hopeless (p, s)) {
    note_course (p, s);
    note_share (p, s, d);
    consider_throttle (p, s);
    consider_mirror (p, s, d, true);
    consider_hot (p, s, d, false);
    p->left_bytes = s->remaining_bytes;
    more = !is_only_missed (p, s) &&
           (!is_mirror_spent (p, s) || !is_throttle_spent (p, s));
  }
  p->measures.mirror = p->mirror.wanted;
  return more || late;
}

void
measures_fit (struct policy *p, const struct policy_snapshot *s,
              struct policy_decision *d)
{
  consider_hot (p, s, d, true);
}
