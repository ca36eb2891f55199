/* SPDX-License-Identifier: BSD-3-Clause */
/* Which measures are in force against a guest that writes faster than is
 * copied, and why: a part of the policy (policy.h).
 *
 * In the order in which they hurt the guest, each only when those before did
 * not do:
 *
 *   tracking     rounds, as long as they leave less and less
 *   hot last     what is written in each round waits for the pause
 *   mirror       late: a destination's time is added to each write
 *   throttle     last: whatever it costs the guest is on purpose
 */

#ifndef NBDMIGRATE_MEASURES_H
#define NBDMIGRATE_MEASURES_H

#include "policy/policy.h"

/* A round shrinks if it leaves no more than this of the best one before it, in
 * hundredths.
 */
#define MEASURES_SHRINK_PERCENT 75

/* So many rounds in a row that do not shrink call for a measure; one is enough
 * where the outlook is bad, and none where it was for POLICY_OUTRUN_US.
 */
#define MEASURES_STALE_ROUNDS 2

/* The mirror also where a round has not halved what was left, and that takes
 * longer than this to copy.
 */
#define MEASURES_LONG_US (INT64_C (1) * 1000000)

/* And in the bulk, where the destination's fastest write took no longer than
 * this, if guests touch more than a part of what rounds can copy; which is the
 * bulk's speed, divided by the other one.
 */
#define MEASURES_NEAR_US 100
#define MEASURES_EARLY_DIVISOR 3
#define MEASURES_EARLY_BACKGROUND 50
#define MEASURES_SCATTERED 12

/* Guests that keep less than this beside the copy, in hundredths, wait for each
 * of their requests, and would for the mirror as well: for theirs it has to be
 * so many times what rounds can copy.
 */
#define MEASURES_WAITING_PERCENT 90
#define MEASURES_WAITING_FACTOR 4

/* And it ends there, for the rest of the bulk, where guests keep less than this
 * of what they did before it, in hundredths, unless they touch
 * MEASURES_WAITING_FACTOR times what rounds can copy; where --background is
 * above its default, less than the other one, whatever they touch.
 */
#define MEASURES_KEPT_PERCENT 80
#define MEASURES_KEPT_FIRST_PERCENT 95

/* How far apart what guests have touched is compared, at least. */
#define MEASURES_GROWTH_US (INT64_C (300) * 1000)

/* Mirroring is without effect when so many rounds with it did not shrink. */
#define MEASURES_VAIN_ROUNDS 2

/* So too when of the guests' writes less than this was mirrored, in hundredths,
 * in so many rounds in a row, of at least so many writes each.
 */
#define MEASURES_SHARE_PERCENT 10
#define MEASURES_SHARE_ROUNDS 3
#define MEASURES_SHARE_WRITES 64

/* After so many demotions in a row, or rounds in which the destination was too
 * slow, the throttle does not wait for the mirror any more.
 */
#define MEASURES_FAILURES 2
#define MEASURES_SLOW_ROUNDS 2

/* So many pauses in a row that missed their deadline call for the mirror, then
 * for the throttle.
 */
#define MEASURES_MISSED 3

/* Hot chunks wait only if what they make of the pause is no more than this, in
 * hundredths.
 */
#define MEASURES_HOT_PERCENT 50

/* --wait: mirroring ends when guests have touched less than this of the copy's
 * speed, in hundredths, for so long.
 */
#define MEASURES_CALM_PERCENT 25
#define MEASURES_CALM_US (INT64_C (30) * 1000000)

/* The throttle is spoken of when it has changed by so much, in hundredths. */
#define MEASURES_TELL_PERCENT 25

/* Of what is hot more is said only when it is twice as much, or half, and not
 * sooner: in sync it comes and goes with each round.
 */
#define MEASURES_TELL_HOT_US (INT64_C (60) * 1000000)

/* What is so at any moment: demotions, the throttle's loop, patience. */
extern void measures_beat (struct policy *p, const struct policy_snapshot *s,
                           struct policy_decision *d, bool round_end);

/* A round has ended and the pause does not fit: whether more can be done. */
extern bool measures_round (struct policy *p, const struct policy_snapshot *s,
                            struct policy_decision *d);

/* A round has ended and the pause fits. */
extern void measures_fit (struct policy *p, const struct policy_snapshot *s,
                          struct policy_decision *d);

/* A round has ended, the pause fits, and rounds do not make it much shorter:
 * whether the mirror will, and another round is worth it.  It may still have to
 * begin.
 */
extern bool measures_shorten (struct policy *p, const struct policy_snapshot *s,
                              struct policy_decision *d);

/* The pause was tried and missed its deadline although it should have fitted:
 * whether more can be done.
 */
extern bool measures_missed (struct policy *p, const struct policy_snapshot *s,
                             struct policy_decision *d);

/* The pause that is allowed now. */
extern uint64_t measures_max_pause_ms (const struct policy *p,
                                       const struct policy_snapshot *s);

/* A time that was predicted of the pause, as those that missed their deadline
 * show it to be: longer than it was thought to.
 */
extern uint64_t measures_expected (const struct policy *p,
                                   const struct policy_snapshot *s,
                                   uint64_t predicted);

/* How fast the copy goes before the pause. */
extern uint64_t measures_copy_rate (const struct policy_snapshot *s);

#endif /* NBDMIGRATE_MEASURES_H */
