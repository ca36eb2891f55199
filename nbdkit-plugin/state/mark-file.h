/* SPDX-License-Identifier: BSD-3-Clause */
/* The mark beside an image that is not the disk any more (migrate-mark): a
 * short text for people, and a file that can be asked for by those who start
 * guests.
 *
 * It decides nothing.  The owner record does, and the mark follows it.  It lies
 * where images do, so a file of that name which does not begin as a mark does
 * may be somebody's disk: it is neither written nor removed.  Nor is a mark of
 * another migrate-dir, or of one of the same name that was emptied since, whose
 * records have another origin: an old image that is served with a new one is
 * what a mark is there to warn of.
 */

#ifndef NBDMIGRATE_MARK_FILE_H
#define NBDMIGRATE_MARK_FILE_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a mark can be there: nothing has this name, or a mark.  -1 with *why
 * (the caller frees it; NULL: no memory).
 */
extern int mark_file_check (const char *path, char **why);

struct mark {
  const char *place; /* where the disk is; NULL: here, and there is no mark */
  const char *dir;   /* its proxy's migrate-dir */
  uint64_t origin;   /* of the records in there; 0: not known */
  bool handed_over;  /* that serves nobody */
};

/* Have the mark say that, or have none.  1: that was done, 0: it was so
 * already.  -1 with errno, and *why may say more (the caller frees it).
 */
extern int mark_file_set (const char *path, const struct mark *m, bool sync,
                          char **why);

#endif /* NBDMIGRATE_MARK_FILE_H */
