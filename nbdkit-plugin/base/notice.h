/* SPDX-License-Identifier: BSD-3-Clause */
/* What is told and is no error: a disk has another owner, a server is back.
 *
 * nbdkit has nbdkit_error, which alerting may take at its word and which
 * reaches clients since 1.42, and nbdkit_debug, which nobody sees.  So this
 * goes beside it, to where nbdkit's errors go: to the journal with a level of
 * its own (sd-daemon(3)), to syslog from the background, and else to stderr.
 *
 * May be called in any thread, with any lock held: what a pipe or a terminal
 * does not take at once is left out.  A syslogd that hangs is waited for, as
 * nbdkit's errors wait for it.
 */

#ifndef NBDMIGRATE_NOTICE_H
#define NBDMIGRATE_NOTICE_H

/* One line; longer ones than NOTICE_MAX bytes are cut, so that with what stands
 * before it a line goes into a pipe in one piece (PIPE_BUF).
 */
#define NOTICE_MAX 4064

extern void notice (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2)));

#endif /* NBDMIGRATE_NOTICE_H */
