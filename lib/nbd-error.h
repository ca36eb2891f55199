/* SPDX-License-Identifier: BSD-3-Clause */
/* What libnbd says of a failure, for people to read. */

#ifndef NBDMIGRATE_NBD_ERROR_H
#define NBDMIGRATE_NBD_ERROR_H

/* libnbd's errors begin with the names of its functions and states
 * ("nbd_aio_notify_read: handshake: server has no export named 'a'"), which
 * tell a user nothing: the part behind them, or what is meant.  NULL for NULL.
 */
extern const char *nbd_error_text (const char *error);

#endif /* NBDMIGRATE_NBD_ERROR_H */
