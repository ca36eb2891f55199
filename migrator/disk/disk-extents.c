/* SPDX-License-Identifier: BSD-3-Clause */
/* What of a leased range reads as zeroes: the copier's questions to the filter.
 *
 * The filter answers over the control socket, within a moment: that it does not
 * know yet, if the plugin takes its time.  Then it is asked again, so that the
 * heartbeat and everything else goes on between.
 */

#include <inttypes.h>
#include <string.h>

#include "disk/disk.h"
#include "protocol.h"
#include "base/say.h"

/* So long the plugin may take to answer one question; then it is not asked any
 * more.
 */
#define ANSWER_US 10000000

static void extents_answered (void *opaque, const struct control_answer *a);

static void
send_question (struct disk *d)
{
  control_send (d->control, "extents",
                json_pack ("{s:I, s:I, s:I}", "question",
                           (json_int_t)d->question.ticket, "offset",
                           (json_int_t)d->question.offset, "length",
                           (json_int_t)d->question.length),
                NULL, 0, extents_answered, d);
}

void
disk_ask_extents (void *opaque, uint64_t ticket, uint64_t offset,
                  uint64_t length)
{
  struct disk *d = opaque;

  d->question = (struct question){
    .ticket = ticket,
    .offset = offset,
    .length = length,
    .asked_us = loop_now_us (),
  };
  send_question (d);
}

static void
still_pending (struct disk *d)
{
  if (loop_now_us () - d->question.asked_us < ANSWER_US) {
    send_question (d);
    return;
  }
  say_info ("%s: the plugin has not said within %d s what reads as zeroes; it "
            "is not asked any more, and everything is read",
            d->pair->source, ANSWER_US / 1000000);
  copier_stop_asking (d->copier);
  copier_answer (d->copier, d->question.ticket, COPIER_SAID_NOTHING, NULL,
                 d->question.offset + d->question.length);
}

static void
answer_from (struct disk *d, const json_t *value)
{
  CLEANUP_EXTENTS struct extents zero = EXTENTS_EMPTY;
  const char *why = "the answer has no end";
  uint64_t end;

  if (protocol_parse_extents (json_object_get (value, "zero"), &zero, &why) ==
        0 &&
      protocol_get_u64 (value, "end", &end) == 1) {
    copier_answer (d->copier, d->question.ticket, COPIER_SAID_ZERO, &zero, end);
    return;
  }
  failure_note (d->settings->failure, "asking what of %s is zero: %s",
                d->pair->source, why);
  copier_answer (d->copier, d->question.ticket, COPIER_SAID_NOTHING, NULL,
                 d->question.offset + d->question.length);
}

/* An answer to a question that was given up says what was true before the lease
 * that the present one is about (R1).
 */
static bool
is_for_another (const struct disk *d, const json_t *value)
{
  uint64_t ticket;

  return protocol_get_u64 (value, "question", &ticket) != 1 ||
         ticket != d->question.ticket;
}

static void
extents_answered (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  if (a->value != NULL && is_for_another (d, a->value))
    return;
  if (a->value == NULL && strcmp (a->error_class, CONTROL_LOST) != 0)
    copier_answer (d->copier, d->question.ticket, COPIER_SAID_ASK_THE_SOURCE,
                   NULL, 0);
  else if (a->value == NULL) /* what follows from that is seen elsewhere */
    copier_answer (d->copier, d->question.ticket, COPIER_SAID_NOTHING, NULL,
                   d->question.offset + d->question.length);
  else if (json_is_true (json_object_get (a->value, "pending")))
    still_pending (d);
  else
    answer_from (d, a->value);
}

static void
distrust_reported (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  if (a->value == NULL)
    failure_note_for_good (
      d->settings->failure,
      "telling the proxy of %s to have everything copied: %s", d->pair->source,
      a->desc);
}

/* Sent before anything that could end the migration, and carried out in order:
 * nothing is committed before all of it was copied again.
 */
static void
copy_all (struct disk *d)
{
  control_send (d->control, "distrust", CONTROL_NO_ARGUMENTS, NULL, 0,
                distrust_reported, d);
}

void
disk_distrust (void *opaque, uint64_t offset)
{
  struct disk *d = opaque;

  say_error ("%s: what its proxy says of zeroes is wrong: the block at offset "
             "%" PRIu64 " is not zero, although it is said to be (found by a "
             "random sample, seed %" PRIu64 "); is there a cache below the "
             "migrate filter?  Nothing is left out any more: all of the disk "
             "is copied as data, from the beginning",
             d->pair->source, offset, d->settings->sample_seed);
  d->settings->decided ("copy-all",
                        "a sample of what was said to be zero was not");
  d->zeroes_distrusted = true;
  copy_all (d);
}

void
disk_not_blank (void *opaque, uint64_t offset)
{
  struct disk *d = opaque;

  say_error ("%s: what the destination %s says of zeroes is wrong: the block "
             "at offset %" PRIu64 " is not zero, although it is said to be "
             "(found by a random sample, seed %" PRIu64 "); is there a cache "
             "in its server, or does somebody else write there?  It is not "
             "asked any more: all of the disk is copied, from the beginning",
             d->pair->source, d->pair->destination, offset,
             d->settings->sample_seed);
  d->settings->decided ("copy-all",
                        "a sample of what the destination said to be zero was "
                        "not");
  copy_all (d);
}
