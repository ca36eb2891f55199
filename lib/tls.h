/* SPDX-License-Identifier: BSD-3-Clause */
/* Is the server of an NBD URI with TLS known to be the right one?
 *
 * libnbd does not always look.  Without a readable ca-cert.pem, in the
 * directory that the URI names or else in the default ones, it goes on and
 * checks nothing (seen with 1.14: whatever certificate the server has is
 * taken).  So does X.509 over a socket that has no host name (CVE-2024-7383),
 * unless it is given one (tls-hostname, since 1.22), and whoever says
 * tls-verify-peer=false (1.22).
 */

#ifndef NBDMIGRATE_TLS_H
#define NBDMIGRATE_TLS_H

#include <stdbool.h>

/* Why the server's certificate would not be checked, and what to do; the caller
 * frees it.  NULL: it is checked, or it has to know a pre-shared key, or the
 * URI does not ask for TLS.  To be asked by the process that connects, each
 * time.
 */
extern char *tls_refusal (const char *uri);

/* Whether it asks for TLS, which libnbd then insists on. */
extern bool tls_is_asked (const char *uri);

/* What to do about an error of libnbd's in a connection with TLS to this URI;
 * NULL: nothing is known.
 */
extern const char *tls_hint (const char *uri, const char *why);

/* The same behind the error, which is the caller's and may be freed; the result
 * is to be freed.  NULL for NULL.
 */
extern char *tls_explain (const char *uri, char *why);

#endif /* NBDMIGRATE_TLS_H */
