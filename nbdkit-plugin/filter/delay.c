/* SPDX-License-Identifier: BSD-3-Clause */
/* What a write costs is what it carries.  Zeroes and trims carry nothing and
 * may be as long as the disk: they cost what they make dirty, since that is
 * what has to be copied again; in a range that is dirty already next to
 * nothing.
 */

#include <errno.h>

#include "delay.h"

#define COST_MIN 4096 /* bytes: any of them is a request */

static uint64_t
cost_of (const struct io *io)
{
  uint64_t dirtied;

  if (io->type == IO_WRITE)
    return io->count;
  dirtied =
    tracker_weigh (io->handle->export->tracker, io->offset, io->count).dirtied;
  if (dirtied > io->count)
    dirtied = io->count;
  return dirtied > COST_MIN ? dirtied : COST_MIN;
}

int
delay_change (const struct io *io)
{
  struct throttle *t = &io->handle->export->throttle;
  struct throttle_request req = THROTTLE_REQUEST_INIT;
  uint64_t cost;

  if (!throttle_is_limited (t) || !handle_is_guest (io->handle))
    return 0;
  cost = cost_of (io);
  while (!throttle_enter (t, &io->handle->flow, &req, cost))
    if (nbdkit_nanosleep (0, 0) == -1) { /* nobody to wait for */
      throttle_give_up (t, &req);
      *io->err = ESHUTDOWN;
      return -1;
    }
  if (io->delays)
    io->delays->throttle_us += req.delayed_ns / 1000;
  return 0;
}
