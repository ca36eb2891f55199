/* SPDX-License-Identifier: BSD-3-Clause */
/* What the nbdkit offers that the filter is built for: that is the one it runs
 * in, as nbdkit refuses a filter that was built for another version.
 */

#ifndef NBDMIGRATE_NBDKIT_VERSION_H
#define NBDMIGRATE_NBDKIT_VERSION_H

#include <nbdkit-filter.h>

#define NBDKIT_IS_AT_LEAST(minor, micro)                                       \
  (NBDKIT_VERSION_MAJOR > 1 || NBDKIT_VERSION_MINOR > (minor) ||               \
   (NBDKIT_VERSION_MINOR == (minor) && NBDKIT_VERSION_MICRO >= (micro)))

/* A client that dies with replies on their way does not end the server, and
 * nbdkit_disconnect ends the connection that is being served.
 */
#define NBDKIT_HAS_DISCONNECT NBDKIT_IS_AT_LEAST (34, 0)

/* A filter can add to "nbdkit --dump-plugin". */
#define NBDKIT_HAS_FILTER_DUMP NBDKIT_IS_AT_LEAST (36, 0)

/* A context that belongs to no connection knows its export name; but 1.48.1
 * does not tell it to a plugin that is opened in a thread without a client.
 */
#define NBDKIT_HAS_SHARED_NAMES NBDKIT_IS_AT_LEAST (43, 9)

/* What a plugin finds out that it cannot zero is written as zeroes to its end;
 * before, nbdkit wrote the first 64 MiB and said that all is well.
 */
#define NBDKIT_ZEROES_ALL NBDKIT_IS_AT_LEAST (44, 1)

#endif /* NBDMIGRATE_NBDKIT_VERSION_H */
