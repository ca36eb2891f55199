/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the owner record share.  See record.c. */

#ifndef NBDMIGRATE_RECORD_INTERNAL_H
#define NBDMIGRATE_RECORD_INTERNAL_H

#include "record-slot.h"

struct record_file {
  char *path;
  char *temporary; /* what a new file is called until it is whole */
  uint8_t name_digest[RECORD_DIGEST_BYTES];
  bool sync;
  bool opened;          /* record_open was called: we know what is there */
  bool dir_not_durable; /* the rename may not survive a crash */
  unsigned weak;        /* the slot to write first: the other is known good */
  int fd;               /* -1: no file that can be written in place */
  struct slot current;  /* what the slots say; valid while fd >= 0 */
  uint64_t known;       /* a generation that they have at least; likewise */
};

/* Set *why to the file's name and the text; errno stays. */
extern void record_explain (char **why, const struct record_file *f,
                            const char *fmt, ...)
  __attribute__ ((format (printf, 3, 4)));

/* pwrite of a whole slot.  -1 with errno. */
extern int record_write_slot (const struct record_file *f, int fd,
                              const struct slot *slot, unsigned number);

/* fdatasync unless the user does without. */
extern int record_sync (const struct record_file *f, int fd);

#endif /* NBDMIGRATE_RECORD_INTERNAL_H */
