/* SPDX-License-Identifier: BSD-3-Clause */
/* A digest needs the bytes in order, so the reads run ahead on several
 * connections into a ring of buffers, which is emptied in order.
 */

#include <limits.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "trust/digest.h"
#include "disks/drive.h"

#define SLOTS 8
#define SLOT_BYTES (512 * 1024)

struct slot {
  struct io io;
  char *buf;
  uint64_t offset, length;
  bool busy, full;
};

struct reader {
  struct disk *d;
  const struct endpoint *over; /* best one that has not written */
  struct slot slots[SLOTS];
  uint64_t next; /* where the next read begins */
  gnutls_hash_hd_t hash;
};

/* The last read may have to reach beyond our disk to be a whole block. */
static uint64_t
round_up (uint64_t value, uint64_t unit)
{
  return (value + unit - 1) / unit * unit;
}

static void
read_ended (struct io *io)
{
  struct slot *s = (struct slot *)io;

  s->busy = false;
  s->full = true;
}

/* What one request reads, whole blocks of the destination. */
static uint64_t
piece_bytes (const struct disk *d)
{
  const struct endpoint *e = disk_reader (d);
  const uint64_t asked = d->disks->options->request_bytes,
                 block = e->minimum_bytes;
  const uint64_t piece =
    e->maximum_bytes < SLOT_BYTES ? e->maximum_bytes : SLOT_BYTES;

  if (asked == 0 || asked >= piece)
    return piece;
  return asked < block ? block : asked / block * block;
}

/* Slot i gets every SLOTS-th piece of the disk, so order needs no list. */
static void
start_reads (struct reader *r)
{
  const struct endpoint *e = r->over;
  const uint64_t piece = piece_bytes (r->d);

  while (r->next < r->d->disk_bytes) {
    struct slot *s = &r->slots[r->next / piece % SLOTS];
    struct connection *conn = endpoint_idle (e, UINT_MAX, 1);

    if (s->busy || s->full || conn == NULL)
      return;
    s->offset = r->next;
    s->length = r->d->disk_bytes - r->next;
    if (s->length > piece)
      s->length = piece;
    s->busy = true;
    s->io.ended = read_ended;
    r->next += s->length;
    connection_read (conn, &s->io, s->buf,
                     (uint32_t)round_up (s->length, e->minimum_bytes),
                     s->offset);
  }
}

static int
take_full (struct reader *r)
{
  size_t i;
  bool progress;

  do {
    progress = false;
    for (i = 0; i < SLOTS; ++i) {
      struct slot *s = &r->slots[i];

      if (!s->full || s->offset != r->d->digested_bytes)
        continue;
      if (s->io.error != 0) {
        failure_note (&r->d->disks->failure,
                      "reading %s for its digest at offset %" PRIu64 ": %s",
                      r->d->pair->destination, s->offset,
                      strerror (s->io.error));
        return -1;
      }
      gnutls_hash (r->hash, s->buf, s->length);
      r->d->digested_bytes += s->length;
      s->full = false;
      progress = true;
    }
  } while (progress);
  return 0;
}

static bool
any_busy (const struct reader *r)
{
  size_t i;

  for (i = 0; i < SLOTS; ++i)
    if (r->slots[i].busy)
      return true;
  return false;
}

static int
read_all (struct reader *r)
{
  const struct disks *disks = r->d->disks;

  while (r->d->digested_bytes < r->d->disk_bytes) {
    if (!endpoint_any_alive (r->over)) {
      failure_note (&r->d->disks->failure, "reading %s for its digest: %s",
                    r->d->pair->destination, endpoint_broken (r->over));
      return -1;
    }
    start_reads (r);
    drive (r->d->disks, 100);
    if (take_full (r) == -1)
      return -1;
    if (disks->failure.stop != STOP_NO) {
      failure_note (&r->d->disks->failure,
                    "reading %s for its digest was interrupted",
                    r->d->pair->destination);
      return -1;
    }
  }
  return 0;
}

static void
to_text (const unsigned char digest[32], char text[DIGEST_TEXT_BYTES])
{
  size_t i;

  for (i = 0; i < 32; ++i)
    sprintf (text + 2 * i, "%02x", digest[i]);
}

int
digest_data (const void *data, size_t bytes, char text[DIGEST_TEXT_BYTES])
{
  unsigned char digest[32];

  if (gnutls_hash_fast (GNUTLS_DIG_SHA256, data, bytes, digest) < 0)
    return -1;
  to_text (digest, text);
  return 0;
}

int
digest_disk (struct disk *d)
{
  struct reader r = { .d = d };
  unsigned char digest[32];
  int result = -1;
  size_t i;

  if (disk_widen_reader (d) == -1)
    return -1;
  r.over = disk_reader (d);
  if (gnutls_hash_init (&r.hash, GNUTLS_DIG_SHA256) < 0) {
    failure_note (&d->disks->failure, "GnuTLS offers no SHA-256");
    return -1;
  }
  for (i = 0; i < SLOTS; ++i) {
    r.slots[i].buf = malloc (SLOT_BYTES + d->destination->minimum_bytes);
    if (r.slots[i].buf == NULL)
      failure_note (&d->disks->failure, "reading %s for its digest: no memory",
                    d->pair->destination);
  }
  if (d->disks->failure.stop == STOP_NO)
    result = read_all (&r);
  while (any_busy (&r))
    drive (d->disks, 100);
  gnutls_hash_deinit (r.hash, digest);
  if (result == 0)
    to_text (digest, d->digest);
  for (i = 0; i < SLOTS; ++i)
    free (r.slots[i].buf);
  return result;
}
