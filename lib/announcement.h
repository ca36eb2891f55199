/* SPDX-License-Identifier: BSD-3-Clause */
/* What a proxy says of itself in its export description, a line each. */

#ifndef NBDMIGRATE_ANNOUNCEMENT_H
#define NBDMIGRATE_ANNOUNCEMENT_H

/* The path of the control socket; which disk it is, in hexadecimal; and after a
 * pivot "yes".
 */
#define ANNOUNCE_CONTROL "nbdmigrate: control="
#define ANNOUNCE_ID "nbdmigrate: id="
#define ANNOUNCE_RELAY "nbdmigrate: relay="

/* What the description (may be NULL) says for this key, NULL if nothing (or no
 * memory); the caller frees it.  Where one proxy stands before another the
 * outer one's lines come last, and count.
 */
extern char *announcement_find (const char *description, const char *key);

#endif /* NBDMIGRATE_ANNOUNCEMENT_H */
