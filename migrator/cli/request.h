/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of a command about one disk:
 *
 *   COMMAND [--control=SOCKET] [--export=NAME] [...] SOURCE|DIR ARGS...
 */

#ifndef NBDMIGRATE_REQUEST_H
#define NBDMIGRATE_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

/* What some of them take besides. */
enum {
  REQUEST_TIMEOUT = 1, /* --timeout=DURATION */
  REQUEST_NO_WAIT = 2, /* --no-wait */
};

struct request {
  const char *source;
  const char *control; /* or NULL */
  const char *export;  /* or NULL */
  uint64_t timeout_ms; /* 0: not given */
  bool no_wait;
  char **args; /* what follows SOURCE */
  int nr_args;
};

/* -1 after saying what is wrong. */
extern int request_parse (struct request *r, int argc, char *argv[],
                          int min_args, int max_args, unsigned takes);

#endif /* NBDMIGRATE_REQUEST_H */
