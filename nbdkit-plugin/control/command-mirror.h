/* SPDX-License-Identifier: BSD-3-Clause */

#ifndef NBDMIGRATE_COMMAND_MIRROR_H
#define NBDMIGRATE_COMMAND_MIRROR_H

#include <jansson.h>

#include "export/export.h"

/* The member "mirror" of 'status'. */
extern json_t *mirror_status (struct export *e);

#endif /* NBDMIGRATE_COMMAND_MIRROR_H */
