/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding the control socket of a source, for the commands that do nothing
 * else with it.
 */

#ifndef NBDMIGRATE_PROXY_H
#define NBDMIGRATE_PROXY_H

#include "control.h"

struct proxy {
  struct loop loop;
  struct control *control;
  char *uri; /* of the source */
  uint64_t max_gate_ms;
};

/* Connect to the source, find its control socket (unless one is given) and
 * attach to its export.  Returns EXIT_DONE, or the status to exit with after
 * saying what is wrong; call proxy_close in any case.
 */
extern int proxy_open (struct proxy *p, const char *source,
                       const char *control_path);
extern void proxy_close (struct proxy *p);

/* What to do when connecting to a source failed for that reason; or "". */
extern const char *proxy_hint (const char *why);

#endif /* NBDMIGRATE_PROXY_H */
