/* SPDX-License-Identifier: BSD-3-Clause */
/* Asking a server for a sign of life: it has to read a few bytes.  Any answer
 * will do, an error too; that there is none shows as for any other request.
 */

#ifndef NBDMIGRATE_PROBE_H
#define NBDMIGRATE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "nbd/endpoint.h"

/* Ask on every connection that has nothing in flight, and on which nothing was
 * answered that was asked since then (monotonic, in microseconds).
 */
extern void probe_idle (struct endpoint *e, int64_t since_us);

/* Whether all connections (at least one) are alive, and something that was
 * asked since then was answered on each (or can be asked on none: the disk has
 * no bytes).
 */
extern bool probe_answered (const struct endpoint *e, int64_t since_us);

#endif /* NBDMIGRATE_PROBE_H */
