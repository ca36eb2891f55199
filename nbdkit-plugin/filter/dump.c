/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdbool.h>
#include <stdio.h>

#include <nbdkit-filter.h>

#include <libnbd.h>

#include "base/nbdkit-version.h"
#include "protocol.h"

#include "dump.h"

#ifdef LIBNBD_HAVE_NBD_SET_TLS_HOSTNAME
#define TLS_HOSTNAME true
#else
#define TLS_HOSTNAME false
#endif

static const char *
yes_or_no (bool yes)
{
  return yes ? "yes" : "no";
}

/* The library that is there now, which may be newer than the one this was built
 * with.
 */
static void
dump_libnbd (void)
{
  struct nbd_handle *nbd = nbd_create ();
  const char *version = nbd ? nbd_get_version (nbd) : NULL;

  printf ("migrate_libnbd=%s\n", version ? version : "unknown");
  if (nbd)
    nbd_close (nbd);
}

void
dump_filter (void)
{
  printf ("migrate_version=%s\n", NBDMIGRATE_VERSION);
  printf ("migrate_control_protocol=%d\n", PROTOCOL_VERSION);
  printf ("migrate_nbdkit=%s\n", NBDKIT_VERSION_STRING);
  dump_libnbd ();
  printf ("migrate_tls_hostname=%s\n", yes_or_no (TLS_HOSTNAME));
  printf ("migrate_disconnect=%s\n", yes_or_no (NBDKIT_HAS_DISCONNECT));
  printf ("migrate_shared_names=%s\n", yes_or_no (NBDKIT_HAS_SHARED_NAMES));
}
