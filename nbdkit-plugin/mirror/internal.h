/* SPDX-License-Identifier: BSD-3-Clause */
/* What the mirror's files share.
 *
 * The lock is that of the connections (remote/remote.h); it guards all that is
 * marked L.  The user's callbacks are called with it, so that what the tracker
 * knows and what is known here change together.
 */

#ifndef NBDMIGRATE_MIRROR_INTERNAL_H
#define NBDMIGRATE_MIRROR_INTERNAL_H

#include <pthread.h>

#include "mirror.h"
#include "remote/remote.h"

#define MEMORY_BYTES (UINT64_C (64) << 20)
#define CONNECTIONS 2   /* each takes 16 requests before the next is used */
#define CONNECT_MS 5000 /* one of them */
#define ZERO_BYTES (UINT64_C (4) << 20) /* a longer one would take its time */

/* Something sent that may outlive its caller. */
struct parcel {
  struct batch batch; /* first: its callback is given this */
  struct mirror *mirror;
  struct parcel *next; /* L: among the abandoned */
  int64_t sent_ms;
  bool abandoned; /* L */
  bool is_flush;
};

struct mirror_write {
  struct parcel parcel; /* first */
  enum mirror_kind kind;
  size_t bytes; /* that it counts for */
  uint8_t data[];
};

struct mirror_flush {
  struct parcel parcel; /* first */
};

struct mirror {
  struct remote remote; /* 'up': since the first connection */
  struct mirror_options options;
  char *uri;
  pthread_t keeper;

  bool wanted;     /* L: it is to be on */
  unsigned left;   /* L: how often its connections were given up */
  bool on;         /* L */
  bool over;       /* L: the session has ended */
  bool ended;      /* L: so has the keeper */
  bool zeroes;     /* L: the destination takes what it is sent to zero */
  unsigned max_ms; /* L */
  struct mirror_peer peer; /* L */
  uint64_t memory;         /* L: bytes of what is under way */

  struct parcel *abandoned; /* L */
  unsigned unanswered;      /* L: writes among them */
  int64_t late_until_ms;    /* L: what was lost may land until then */

  uint64_t demotions; /* L */
  char why[256];      /* L: of the latest */
};

/* Off by itself.  L. */
extern void mirror_demote (struct mirror *m, const char *fmt, ...)
  __attribute__ ((format (printf, 2, 3)));

/* remote_user.lost.  L. */
extern void mirror_lost (void *opaque, struct connection *c, bool again,
                         const char *why);

/* Something of unknown outcome was lost with its connection.  L. */
extern void mirror_note_unknown (struct mirror *m);

extern void parcel_init (struct parcel *p, struct mirror *m, bool is_flush);

/* It is the keeper's from now on.  L. */
extern void parcel_abandon (struct parcel *p);

/* A parcel that is over.  Without the lock. */
extern void parcel_free (struct parcel *p);

/* Those that are over go.  L; released meanwhile. */
extern void mirror_reap (struct mirror *m);

extern void *mirror_keeper (void *opaque);

#endif /* NBDMIGRATE_MIRROR_INTERNAL_H */
