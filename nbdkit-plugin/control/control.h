/* SPDX-License-Identifier: BSD-3-Clause */
/* The control server: who is connected, and the threads that serve them.  What
 * the commands do is in commands.h.
 */

#ifndef NBDMIGRATE_CONTROL_H
#define NBDMIGRATE_CONTROL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

struct export;

struct client {
  /* Belongs to the client's thread. */
  struct line_reader reader;
  struct export *export; /* attached to, or NULL */
  int64_t last_line_ms;  /* when the last command was answered */
  unsigned allowance;    /* commands it may send just now */
  int64_t allowance_ms;  /* as of then */

  /* Protected by the control lock.  The descriptor stays open while the
   * client is an export's session.
   */
  struct client *next, *prev;
  pthread_t thread;
  int fd;
  size_t pending_fds; /* of the reader's, as counted for all clients */
  bool session;
  bool was_session; /* at any time */
  bool evicted;
  bool watching; /* gone; its thread looks after what it left */
  int64_t idle_since_ms;
};

/* Start the threads on the listening socket; .after_fork.  -1: error
 * (reported).
 */
extern int control_start (int listen_fd);

/* Disconnect everybody and join the threads.  May be called again. */
extern void control_stop (void);

/* Whether the peer is gone, or the server is stopping: a command that waits
 * asks this every now and then.  For the client's own thread.
 */
extern bool client_is_gone (struct client *c);

/* Cut the connection; its thread notices.  The caller makes sure that the
 * client is an export's session meanwhile, by that session's lock.
 */
extern void client_disconnect (struct client *c);

/* Its number; 0: it is not known. */
extern pid_t client_pid (const struct client *c);

/* Whether anybody, or this process, has a control connection just now. */
extern bool control_has_clients (void);
extern bool control_has_process (pid_t pid);

/* A pidfd of the process that made the connection; -1: it cannot be had.  The
 * caller closes it.
 */
extern int client_process (const struct client *c);

/* It became the session of an export, or ceased to be. */
extern void client_set_session (struct client *c, bool session);

#endif /* NBDMIGRATE_CONTROL_H */
