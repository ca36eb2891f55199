/* SPDX-License-Identifier: BSD-3-Clause */
/* The cut-over of all disks together (R8 to R11). */

#ifndef NBDMIGRATE_CUT_OVER_H
#define NBDMIGRATE_CUT_OVER_H

struct migration;

enum cut_over {
  CUT_DONE,
  CUT_MISSED, /* the deadline */
  CUT_WISHED, /* something else is wished: drive_fetch_wishes */
  CUT_FAILED,
  CUT_UNKNOWN
};

/* Close all gates, copy the rest, commit, open the gates. */
extern enum cut_over cut_over (struct migration *m);

#endif /* NBDMIGRATE_CUT_OVER_H */
