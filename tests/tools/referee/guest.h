/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest of `referee run`: many requests in flight, never two on one cell.
 *
 * One thread, one event loop over all connections.
 */

#ifndef REFEREE_GUEST_H
#define REFEREE_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "content.h"
#include "record.h"

struct nbd_handle;

#define GUEST_REQUEST_MAX (256 * 1024) /* bytes */

struct guest_options {
  const char *uris[LAYOUT_DISKS_MAX];
  uint32_t disks;
  const char *log;
  const char *until_file; /* or NULL */
  const char *initial;    /* or NULL: "zero" */
  const char *kinds;      /* letters of enum op_kind that may be used */
  uint64_t seed;
  uint64_t max_cells;     /* per disk */
  uint64_t align;         /* of all requests, bytes */
  uint64_t max_ops;       /* 0: no limit */
  uint64_t seconds;       /* 0: no limit */
  uint64_t rate;          /* bytes written per second, 0: no limit */
  uint64_t depth;         /* requests in flight, all disks together */
  uint64_t connections;   /* per disk; 0: four, or one without multi-conn */
  bool resume;            /* go on with an existing record */
  bool lost_cache;        /* with resume: what was not flushed may be gone */
  bool expect_shutdown;   /* ESHUTDOWN is a good end */
  bool expect_disconnect; /* a lost connection is a good end */
  bool tolerate_errors;   /* failed requests do not end the run */
};

struct connection {
  struct nbd_handle *nbd;
  uint32_t disk;
  size_t in_flight;
  bool dead;
};

/* A request in flight. */
struct slot {
  struct connection *conn; /* NULL: the slot is free */
  enum op_kind kind;
  uint32_t id; /* in the record; 0 for reads */
  size_t first, count;
  uint64_t offset;
  size_t length;
  uint8_t *buf; /* GUEST_REQUEST_MAX bytes */
  bool done;
  int error;
  int64_t sent_mono_us, ended_mono_us, ended_real_us;
};

struct counters {
  uint64_t reads, writes, zeroes, trims, flushes;
  uint64_t written_bytes;
  uint64_t errors, shutdowns;
  int64_t longest_write_us;
  int64_t longest_write_at_us; /* real time, its end */
};

struct guest {
  const struct guest_options *o;
  struct record record;
  struct rng rng;
  struct connection *conns;
  size_t nr_conns, conn_depth;
  struct slot *slots;
  size_t nr_slots;
  uint8_t *busy;                    /* per cell: a request is on it */
  size_t cursor[LAYOUT_DISKS_MAX];  /* of the sequential stream */
  char kinds[LAYOUT_DISKS_MAX][16]; /* what the server can do */
  bool long_zero_due;               /* OP_ZERO_LONG, when nothing is there */
  uint32_t next_long_zero;          /* requests until then */
  int64_t next_write_mono_us;       /* rate limit */
  uint64_t ops;
  struct counters count;
  bool stopping, wrong, failed, disconnected;
};

/* guest-connect.c: opens all connections; fills sizes and kinds. */
extern void guest_connect (struct guest *g);
extern void guest_close (struct guest *g);

/* guest-choose.c: what to do next on this disk, into the slot (kind, first,
 * count, offset, length).  False if nothing suits now.
 */
extern bool guest_choose (struct guest *g, uint32_t disk, struct slot *s);

/* guest-request.c: send what was chosen; deal with one that is done. */
extern void guest_record (struct guest *g, struct slot *s);
extern void guest_send (struct guest *g, struct slot *s);
extern void guest_reap (struct guest *g, struct slot *s);
extern void guest_final_flush (struct guest *g);

/* guest.c: the loop.  Returns the exit status. */
extern int guest_run (const struct guest_options *o);

#endif /* REFEREE_GUEST_H */
