/* SPDX-License-Identifier: BSD-3-Clause */
/* The little that must be known about NBD URIs before libnbd gets them.
 *
 * The syntax is that of the NBD URI specification (doc/uri.md of the NBD
 * project); libnbd does the real parsing.
 */

#ifndef NBDMIGRATE_URI_H
#define NBDMIGRATE_URI_H

#include <stdbool.h>

/* Whether the text begins with a scheme that libnbd accepts: nbd, nbds,
 * nbd+unix, nbds+unix, nbd+vsock, nbds+vsock followed by "://".
 */
extern bool uri_is_nbd (const char *uri);

/* Why it can be none that is meant, although libnbd might connect somewhere
 * with it: as the end of a sentence that names it.  NULL: nothing is seen.
 */
extern const char *uri_wrong (const char *uri);

/* The URI with the paths of its query parameters (socket, tls-certificates,
 * tls-psk-file) made absolute against the current directory, so that another
 * process can use it, and with what a URI cannot have in them, such as a blank,
 * percent-encoded.  The caller frees it.  NULL with errno set on error.
 */
extern char *uri_absolute (const char *uri);

/* Called with each query parameter that libnbd would see: its name, and its
 * value with percent-encoded bytes decoded ("" without one).  -1: no memory.
 */
typedef void uri_parameter (void *opaque, const char *name, const char *value);
extern int uri_foreach_parameter (const char *uri, uri_parameter *f,
                                  void *opaque);

/* The name of the export that an NBD URI asks for, "" for the default one.  The
 * caller frees it.  NULL: no memory.
 */
extern char *uri_export_name (const char *uri);

/* Of a URI for plain TCP that is written in the usual way: where to connect to,
 * which the caller frees.  False: it is another one, or there is no memory.
 */
extern bool uri_tcp_address (const char *uri, char **host, char **port);

/* What a destination is called that is the local image of the source's proxy,
 * after the disk has left it; and the name of the export by which the proxy
 * lets the migrator write there.
 */
#define URI_LOCAL "local:"
#define URI_LOCAL_EXPORT "nbdmigrate-local"

extern bool uri_is_local (const char *uri);

/* The URI of an export whose name needs no encoding, behind a Unix socket.  The
 * caller frees it.  NULL: no memory.
 */
extern char *uri_of_socket (const char *path, const char *export_name);

/* The URI of that export, beside the default export that 'source' asks for. The
 * caller frees it.  NULL with errno set: EINVAL if it asks for another one.
 */
extern char *uri_of_local (const char *source);

#endif /* NBDMIGRATE_URI_H */
