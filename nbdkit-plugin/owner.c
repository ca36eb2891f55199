/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>

#include <nbdkit-filter.h>

#include "export.h"
#include "owner.h"

int
owner_load (struct export *e, enum owner *owner)
{
  (void)e;
  *owner = OWNER_SOURCE;
  return 0;
}

int
owner_record (struct export *e, enum owner owner)
{
  nbdkit_debug ("migrate: export \"%s\": owner is %s", e->name,
                owner_name (owner));
  return 0;
}

const char *
owner_name (enum owner owner)
{
  switch (owner) {
  case OWNER_SOURCE:
    return "source";
  case OWNER_DESTINATION:
    return "destination";
  case OWNER_FENCED:
    return "fenced";
  case OWNER_UNKNOWN:
    break;
  }
  return "unknown";
}
