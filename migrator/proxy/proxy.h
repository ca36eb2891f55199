/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding the control socket of a disk, for the commands that do nothing else
 * with it.
 */

#ifndef NBDMIGRATE_PROXY_H
#define NBDMIGRATE_PROXY_H

#include <stdbool.h>

#include "proxy/control.h"

struct endpoint;

struct proxy {
  struct loop loop;
  struct control *control;
  char *uri;        /* of the source, or what else messages call the disk */
  json_t *attached; /* the answer to 'attach' */
  uint64_t max_gate_ms;
};

/* Attach to the disk's export in its proxy.  'source' is its URI, or the
 * proxy's migrate-dir: then there is no connection by NBD, and 'export' chooses
 * one of several disks (otherwise NULL).  With the control socket's path given
 * (otherwise NULL) there is one only if no client has opened the export yet.
 * Returns EXIT_DONE, or the status to exit with after saying what is wrong;
 * call proxy_close in any case.
 */
extern int proxy_open (struct proxy *p, const char *source,
                       const char *control_path, const char *export);
extern void proxy_close (struct proxy *p);

/* Why the control socket that answered so to 'attach' is not known to be that
 * of the disk which the source serves; NULL if it is.  Another host's proxy may
 * announce a path at which there is a socket of this host.  Where the user
 * named the socket ('named') and the source tells no id, the user's word does.
 * The caller frees it.
 */
extern char *proxy_is_foreign (const struct endpoint *source, const char *path,
                               bool named, const json_t *attached);

/* That its control socket, of the disk or directory 'what', cannot be had. */
extern void proxy_say_no_control (const char *path, const char *what,
                                  const char *why);

/* What to do when connecting to a source failed for that reason; or "". */
extern const char *proxy_hint (const char *why);

/* Whether that reason is that nobody listens there. */
extern bool proxy_unreachable (const char *why);

#endif /* NBDMIGRATE_PROXY_H */
