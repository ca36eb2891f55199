/* SPDX-License-Identifier: BSD-3-Clause */
/* Is the server of an NBD URI with TLS known to be the right one?
 *
 * libnbd does not always look.  Without a readable ca-cert.pem, in the
 * directory that the URI names or else in the default ones, it goes on and
 * checks nothing (seen with 1.14: whatever certificate the server has is
 * taken).  So does X.509 over a socket that has no host name (CVE-2024-7383).
 */

#ifndef NBDMIGRATE_TLS_H
#define NBDMIGRATE_TLS_H

/* Why the server's certificate would not be checked, and what to do; the caller
 * frees it.  NULL: it is checked, or it has to know a pre-shared key, or the
 * URI does not ask for TLS.  To be asked by the process that connects, each
 * time.
 */
extern char *tls_refusal (const char *uri);

#endif /* NBDMIGRATE_TLS_H */
