/* SPDX-License-Identifier: BSD-3-Clause */
/* Small things every part of the referee needs. */

#ifndef REFEREE_UTIL_H
#define REFEREE_UTIL_H

#include <stdint.h>
#include <stdlib.h>

/* Exit status: what a test may conclude. */
enum {
  EXIT_GOOD = 0,
  EXIT_BROKEN = 1, /* could not do its work, or a server failed */
  EXIT_USAGE = 2,
  EXIT_WRONG = 3, /* the disk holds what it must not hold */
};

/* A message on stderr and the end of the process. */
extern void die (int status, const char *fmt, ...)
  __attribute__ ((noreturn, format (printf, 2, 3)));

/* A message on stderr. */
extern void say (const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));

/* Never return NULL. */
extern void *xrealloc (void *ptr, size_t bytes);
extern void *xcalloc (size_t n, size_t bytes);

/* Microseconds since the epoch; of the monotonic clock. */
extern int64_t now_real_us (void);
extern int64_t now_mono_us (void);

/* A whole decimal number, or the end of the process naming 'what'. */
extern uint64_t parse_number (const char *what, const char *text);

/* A size as in "20M", the same way. */
extern uint64_t parse_size (const char *what, const char *text);

#endif /* REFEREE_UTIL_H */
