/* SPDX-License-Identifier: BSD-3-Clause */
/* Filling a disk: a few threads, each with a connection of its own, each
 * writing every n-th megabyte.
 */

#include "pattern.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include <libnbd.h>

#include "content.h"
#include "initial.h"
#include "util.h"

#define THREADS_MAX 4
#define STRIPE (1024 * 1024)

struct worker {
  const struct pattern_options *o;
  struct nbd_handle *nbd;
  uint64_t index, count; /* this one of so many */
  uint64_t size;
  uint64_t written;
  uint8_t *buf;
  pthread_t thread;
};

static void
write_run (struct worker *w, uint64_t offset, uint64_t end)
{
  if (offset == end)
    return;
  content_fill (w->o->seed, 0, offset, w->buf, end - offset);
  if (nbd_pwrite (w->nbd, w->buf, end - offset, offset, 0) == -1)
    die (EXIT_BROKEN, "%s: writing at %" PRIu64 ": %s", w->o->uri, offset,
         nbd_get_error ());
  w->written += end - offset;
}

/* Blocks with data that lie side by side are one request. */
static void
write_stripe (struct worker *w, uint64_t offset, uint64_t end)
{
  uint64_t run = offset;

  while (offset < end) {
    const uint64_t next =
      end - offset < PATTERN_BLOCK ? end : offset + PATTERN_BLOCK;

    if (!pattern_has (w->o->seed, w->o->density, offset / PATTERN_BLOCK)) {
      write_run (w, run, offset);
      run = next;
    }
    offset = next;
  }
  write_run (w, run, end);
}

static void *
work (void *opaque)
{
  struct worker *const w = opaque;

  for (uint64_t offset = w->index * STRIPE; offset < w->size;
       offset += w->count * STRIPE)
    write_stripe (w, offset,
                  w->size - offset < STRIPE ? w->size : offset + STRIPE);
  if (nbd_can_flush (w->nbd) == 1 && nbd_flush (w->nbd, 0) == -1)
    die (EXIT_BROKEN, "%s: %s", w->o->uri, nbd_get_error ());
  return NULL;
}

static void
connect_worker (struct worker *w, const struct pattern_options *o)
{
  w->o = o;
  w->nbd = nbd_create ();
  if (w->nbd == NULL || nbd_set_uri_allow_local_file (w->nbd, true) == -1 ||
      nbd_connect_uri (w->nbd, o->uri) == -1)
    die (EXIT_BROKEN, "%s: %s", o->uri, nbd_get_error ());
  w->size = nbd_get_size (w->nbd);
  w->buf = xcalloc (1, STRIPE);
}

int
pattern_run (const struct pattern_options *o)
{
  struct worker workers[THREADS_MAX] = { 0 };
  uint64_t i, n, written = 0;

  connect_worker (&workers[0], o);
  n = nbd_can_multi_conn (workers[0].nbd) == 1 ? THREADS_MAX : 1;
  for (i = 1; i < n; i++)
    connect_worker (&workers[i], o);
  for (i = 0; i < n; i++) {
    workers[i].index = i;
    workers[i].count = n;
    if (pthread_create (&workers[i].thread, NULL, work, &workers[i]) != 0)
      die (EXIT_BROKEN, "cannot create a thread");
  }
  for (i = 0; i < n; i++) {
    pthread_join (workers[i].thread, NULL);
    written += workers[i].written;
    nbd_shutdown (workers[i].nbd, 0);
    nbd_close (workers[i].nbd);
    free (workers[i].buf);
  }
  printf ("{\"seed\":%" PRIu64 ",\"written_bytes\":%" PRIu64 "}\n", o->seed,
          written);
  return EXIT_GOOD;
}
