/* SPDX-License-Identifier: BSD-3-Clause */
/* Who owns a disk: which side is authoritative. */

#ifndef NBDMIGRATE_OWNERSHIP_H
#define NBDMIGRATE_OWNERSHIP_H

enum owner {
  OWNER_SOURCE,      /* the guest is served from the source */
  OWNER_DESTINATION, /* after a pivot */
  OWNER_FENCED,      /* after a handover: nobody is served here */
  OWNER_UNKNOWN,     /* the record cannot be read: nobody is served */
};

/* "source", "destination", "fenced", "unknown". */
extern const char *owner_name (enum owner owner);

#endif /* NBDMIGRATE_OWNERSHIP_H */
