/* SPDX-License-Identifier: BSD-3-Clause */
/* Counts the answers in what an NBD server sends, and looks at nothing else.
 *
 * From the NBD protocol, "Simple reply message", "Structured reply chunk
 * message" and "Extended reply chunk message".  It begins where an answer
 * begins, on a connection with structured replies or extended headers (libnbd
 * from 1.18 and qemu-nbd from 8.2 agree on those): there a simple reply has no
 * data, so each says itself how long it is.
 */

#ifndef NBDMIGRATE_REPLY_READER_H
#define NBDMIGRATE_REPLY_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLY_HEADER_MAX 32

struct reply_reader {
  uint32_t owed; /* so many answers are still to come */

  uint8_t header[REPLY_HEADER_MAX];
  uint8_t have;  /* bytes of it */
  bool in_data;  /* its header is complete */
  bool last;     /* an answer ends with it */
  uint64_t data; /* bytes of it that are still to come */
};

/* The next bytes.  False: these are no replies. */
extern bool reply_reader_take (struct reply_reader *r, const uint8_t *bytes,
                               size_t n);

#endif /* NBDMIGRATE_REPLY_READER_H */
