/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of a migration (nbdmigrate(1)). */

#ifndef NBDMIGRATE_OPTIONS_H
#define NBDMIGRATE_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Exit status, as in nbdmigrate(1). */
enum {
  EXIT_DONE = 0,
  EXIT_FAILED = 1,
  EXIT_USAGE = 2,
  EXIT_CANCELLED = 3,
  EXIT_NOT_CONVERGED = 4,
  EXIT_UNKNOWN = 5,
};

enum finish { FINISH_PIVOT, FINISH_HANDOVER, FINISH_DETACH };

extern const char *finish_name (enum finish finish);
/* -1 if the text is no such name. */
extern int finish_parse (const char *text, enum finish *finish);

struct pair {
  char *source, *destination; /* URIs with absolute paths, owned */
  char
    *connect; /* what leads to the destination, which may be "local:"; owned */
};

#define OPTIONS_BACKGROUND 50
#define OPTIONS_RECONNECT_MS 30000
#define OPTIONS_BACKGROUND_MAX 100

struct options {
  /* When it may be cut over, as in policy/window.h. */
  bool window;
  unsigned window_from, window_to;
  time_t finish_at;   /* 0: not given */
  struct pair *pairs; /* owned */
  size_t nr_pairs;
  enum finish finish;
  uint64_t max_pause_ms;
  unsigned background;        /* 0 to 100: how much the guest comes first */
  unsigned converge;          /* enum policy_converge */
  uint64_t max_pause_late_ms; /* allowed after patience_ms; 0: not given */
  uint64_t patience_ms;
  uint64_t reconnect_ms;   /* a lost destination is waited for; 0: not */
  uint64_t throttle_floor; /* bytes per second */
  bool explain;            /* --policy=explain */
  uint64_t rate;           /* bytes per second of all disks, 0: unlimited */
  unsigned connections;    /* to each side of a disk, 0: chosen */
  unsigned depth;          /* requests in flight on one, 0: chosen */
  int64_t sample_seed;     /* below 0: not given */
  uint64_t request_bytes;  /* 0: chosen */
  bool shared_memory;      /* read through it, where that can be */
  bool destination_is_zero;
  bool restart;
  bool incremental;
  bool check; /* only say what would be done */
  bool wait;
  bool verify;
  bool digest;
  char **shared_bases; /* one a pair, or none; as in pairs, owned */
  size_t nr_shared_bases;
  const char *control;      /* instead of the announced one, or NULL */
  const char *hook;         /* or NULL */
  uint64_t hook_timeout_ms; /* each time */
  uint64_t timeout_ms;      /* of the whole run, 0: none */
  uint64_t interval_ms;     /* --progress-interval, 0: not given */
  uint64_t log_ms;          /* --progress=log: how often; 0: not */
  bool verbose;             /* say what is decided, and why */
  bool bar;                 /* redraw a progress line on stderr */
  bool bar_asked;           /* by --progress, not by a terminal */
  int progress_fd;          /* N/100 lines, -1: none */
  bool require_tls;         /* no link that carries the disk is in plain text */
  bool quiet;
  bool json;
  const char *metrics; /* file for them, or NULL */
  const char *events;  /* file for the JSON events, or NULL */
};

/* Parse what follows the program's name.  Returns -1 to go on, otherwise the
 * status to exit with: --help and --version were obeyed, or what is wrong was
 * said.
 */
extern int options_parse (struct options *o, int argc, char *argv[]);
extern void options_free (struct options *o);

/* Print the summary of everything.  Returns the status to exit with. */
extern int options_help (void);

/* getopt_long for options that have only long names, with numbers from
 * OPTIONS_FIRST on.  What is wrong is said.
 */
#define OPTIONS_FIRST 256
extern int options_next (int argc, char *argv[], const struct option *known);

/* The same, with short ones besides, as in getopt. */
extern int options_next_short (int argc, char *argv[], const char *letters,
                               const struct option *known);

/* Make a URI argument usable: an NBD URI with absolute paths; the caller frees
 * it.  NULL after saying what is wrong with it ("what" names the argument).
 */
extern char *options_uri (const char *what, const char *text);

/* The value of an option; -1 after saying what is wrong with it. */
extern int options_bytes (const char *name, const char *text, uint64_t *bytes);
extern int options_rate (const char *name, const char *text, uint64_t *bytes);
extern int options_pause (const char *name, const char *text, uint64_t *ms);
extern int options_control (const char *text, const char **path);
extern int options_background (const char *name, const char *text,
                               unsigned *background);
extern int options_converge (const char *name, const char *text,
                             unsigned *converge);

#endif /* NBDMIGRATE_OPTIONS_H */
