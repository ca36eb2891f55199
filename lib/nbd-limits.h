/* SPDX-License-Identifier: BSD-3-Clause */
/* How long an NBD request without data may be, in bytes.
 *
 * The protocol sets no limit but 32 bits.  Servers do, without saying so:
 *
 *   nbdkit before 1.44.1, where a plugin that said it could zero cannot after
 *   all, and nbd-server (3.24 to 3.27.1) zero the first 64 MiB of a request and
 *   answer with success.  So no request to write zeroes is longer than that,
 *   whoever the server says it is; nor is one to trim, as nothing is gained.
 *
 *   A request about 2 GiB or more can crash nbdkit (CVE-2025-47711), and
 *   qemu-nbd answers it with an error.
 */

#ifndef NBDMIGRATE_NBD_LIMITS_H
#define NBDMIGRATE_NBD_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

/* What servers are to accept where they state no maximum (NBD protocol, "Block
 * size constraints"): of a request with data.
 */
#define NBD_DATA_MAX_UNSTATED (UINT32_C (32) << 20)

/* Of a request to write zeroes or to trim; the shorter one where the server
 * states no block sizes.
 */
#define NBD_ZERO_MAX (UINT32_C (64) << 20)
#define NBD_ZERO_MAX_UNSTATED NBD_DATA_MAX_UNSTATED

/* Of a question for block status: whole chunks of any size. */
#define NBD_STATUS_MAX (UINT64_C (1984) << 20)

/* The largest minimum block that a server may ask for (NBD protocol, "Block
 * size constraints"), a power of two.
 */
#define NBD_MINIMUM_MAX UINT32_C (65536)

static inline bool
nbd_minimum_is_valid (uint64_t bytes)
{
  return bytes > 0 && bytes <= NBD_MINIMUM_MAX && (bytes & (bytes - 1)) == 0;
}

/* Requests in flight on a connection, at most.  Servers carry out sixteen of
 * them at once or fewer, but more can be on their way.
 */
#define NBD_DEPTH_MAX 64

_Static_assert(NBD_ZERO_MAX <= UINT32_C (64) << 20 &&
                 NBD_ZERO_MAX_UNSTATED <= NBD_ZERO_MAX,
               "some servers zero no more than 64 MiB of a request");
_Static_assert(NBD_STATUS_MAX < UINT64_C (2) << 30,
               "some servers fail at 2 GiB");
_Static_assert(NBD_ZERO_MAX_UNSTATED % NBD_MINIMUM_MAX == 0 &&
                 NBD_ZERO_MAX % NBD_MINIMUM_MAX == 0,
               "requests are whole blocks");

/* Of one request to write zeroes, or to trim, to a server that states this
 * maximum of a request with data; 0: it states none.
 */
static inline uint32_t
nbd_zero_max (int64_t stated)
{
  return stated > 0 ? NBD_ZERO_MAX : NBD_ZERO_MAX_UNSTATED;
}

#endif /* NBDMIGRATE_NBD_LIMITS_H */
