/* SPDX-License-Identifier: BSD-3-Clause */
/* What canary.c (marks, and who sees them) and canary-place.c (where they may
 * be written) share.
 */

#ifndef NBDMIGRATE_CANARY_INTERNAL_H
#define NBDMIGRATE_CANARY_INTERNAL_H

#include "disks/drive.h"

#define MARK_BYTES 16 /* what a mark repeats */

struct place {
  struct disk *d;
  struct extents top;  /* --shared-base: what will be written at all */
  uint64_t wish;       /* in which chunk it should be, or behind that */
  struct extent chunk; /* leased, if its length is not 0 */
  bool differs;        /* from what all sources hold there, as last read */
  bool proven;         /* it did with all gates shut: it is no source's own */
  bool chosen;         /* proven, or the last try */
  uint64_t offset;
  uint32_t bytes; /* whole blocks, many MARK_BYTES */
  unsigned char id[MARK_BYTES];
  char *mark, *before;
  bool marked;                      /* until the old bytes are back */
  bool overwritten;                 /* by somebody else */
  bool leave;                       /* nothing is put back */
  size_t others, own, own_end;      /* where among the reads */
  unsigned connection, connections; /* of the relay: to be asked, there are */
};

struct canary {
  struct disks *disks;
  struct place *v; /* one for each disk, in their order */
  bool just_seen;  /* all marks, and nothing else was asked since */
  bool shut;       /* the gates; until they open by themselves: */
  int64_t until_us;
  bool missed; /* a deadline: rather not make guests wait again */
};

/* NULL: this disk is not asked. */
typedef json_t *place_arguments (const struct place *p);

/* Send a command to the proxies of some disks and wait for the answers, into
 * answer.value, which is NULL for those that were not asked.  -1 after
 * failure_note.
 */
extern int canary_ask (struct canary *c, const char *command,
                       place_arguments *arguments);

/* Shut the gates, unless a guest has waited in vain before: then, or if they
 * are not shut in time, 'shut' stays false.  -1 after failure_note.
 */
extern int canary_shut (struct canary *c);

/* Open them.  Whether all were shut since canary_shut. */
extern bool canary_open (struct canary *c);

/* A place for each destination that has one, read into 'before'.  -1 after
 * failure_note.
 */
extern int canary_choose_places (struct canary *c);

/* Read again what the destination and the sources hold at a place. */
extern int canary_look_before (struct canary *c, struct place *p);

/* The leases end. */
extern int canary_give_back (struct canary *c);

/* Whether the export is long enough to be read there. */
extern bool canary_fits (const struct endpoint *e, const struct place *p);

#endif /* NBDMIGRATE_CANARY_INTERNAL_H */
