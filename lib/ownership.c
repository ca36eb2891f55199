/* SPDX-License-Identifier: BSD-3-Clause */

#include "ownership.h"

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
