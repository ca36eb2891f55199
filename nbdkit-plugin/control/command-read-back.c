/* SPDX-License-Identifier: BSD-3-Clause */
/* What the prepared relay sees at the destination.  After a pivot the guest is
 * served over the relay's connections and no other, so it is they that have to
 * reach the disk that was copied to: a server may give each client a disk of
 * its own.  Digests, because a line holds little.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "call.h"
#include "cleanup.h"
#include "export/place.h"
#include "relay/relay.h"

#define RANGES_MAX 1024              /* of one command */
#define RANGE_MAX (1024 * 1024)      /* bytes of one range */
#define TOTAL_MAX (64 * 1024 * 1024) /* bytes of all ranges of one command */
#define DIGEST_BYTES 32              /* SHA-256 */

struct ranges {
  struct extent v[RANGES_MAX];
  size_t n;
  uint64_t bytes;
};

/* One range, not merged with its neighbour: each has a digest of its own. */
static int
add_range (struct call *call, struct ranges *ranges, json_t *json)
{
  CLEANUP_EXTENTS struct extents one = EXTENTS_EMPTY;
  CLEANUP_JSON json_t *array = json_pack ("[O]", json);
  const char *why = "no memory";

  if (protocol_parse_extents (array, &one, &why) == -1) {
    call_fail (call, "BadArgument", "\"extents\": %s", why);
    return -1;
  }
  ranges->v[ranges->n++] = one.v[0];
  ranges->bytes += one.v[0].length;
  if (one.v[0].offset + one.v[0].length <= call->export->disk_bytes &&
      one.v[0].length <= RANGE_MAX && ranges->bytes <= TOTAL_MAX)
    return 0;
  call_fail (call, "BadArgument",
             "\"extents\": a range ends past the disk, has more than %d "
             "bytes, or all together have more than %d",
             RANGE_MAX, TOTAL_MAX);
  return -1;
}

static int
get_ranges (struct call *call, struct ranges *ranges)
{
  json_t *json = json_object_get (call->args, "extents"), *x;
  size_t i;

  ranges->n = 0;
  ranges->bytes = 0;
  if (json_array_size (json) == 0 || json_array_size (json) > RANGES_MAX) {
    call_fail (call, "BadArgument", "\"extents\" must be 1 to %d ranges",
               RANGES_MAX);
    return -1;
  }
  json_array_foreach (json, i, x)
    if (add_range (call, ranges, x) == -1)
      return -1;
  return 0;
}

static json_t *
digest_of (const void *data, size_t count)
{
  unsigned char digest[DIGEST_BYTES];
  char text[2 * DIGEST_BYTES + 1];

  if (gnutls_hash_fast (GNUTLS_DIG_SHA256, data, count, digest) < 0)
    return NULL;
  for (size_t i = 0; i < DIGEST_BYTES; i++)
    sprintf (text + 2 * i, "%02x", digest[i]);
  return json_string (text);
}

/* The disk moves back to the local image: its guests will be served from there.
 * -1 with errno.
 */
static int
read_local (struct local *l, void *buf, uint32_t count, uint64_t offset)
{
  nbdkit_next *next = local_begin (l, NULL);
  int err = EIO;
  const int r = next->pread (next, buf, count, offset, 0, &err);

  local_end (l, NULL, next);
  errno = err;
  return r;
}

/* 'relay' is NULL for the local image. */
static int
read_one (struct call *call, struct relay *relay, unsigned which, void *buf,
          const struct extent *x)
{
  return relay ? relay_read_back (relay, which, buf, x->length, x->offset)
               : read_local (&call->export->local, buf, x->length, x->offset);
}

/* An array of as many digests.  NULL after call_fail, or if there is no memory
 * or nobody to answer.
 */
static json_t *
read_ranges (struct call *call, struct relay *relay, unsigned which,
             const struct ranges *ranges)
{
  json_t *digests = json_array ();
  CLEANUP_FREE void *buf = malloc (RANGE_MAX);

  for (size_t i = 0; buf != NULL && i < ranges->n; i++) {
    const struct extent *x = &ranges->v[i];

    call->gone = client_is_gone (call->client);
    if (!call->gone && read_one (call, relay, which, buf, x) == 0 &&
        json_array_append_new (digests, digest_of (buf, x->length)) == 0)
      continue;
    if (!call->gone)
      call_fail (call, "BadDestination",
                 "reading at offset %" PRIu64 " (%" PRIu64 " bytes) over the "
                 "proxy's own connection %u: %s",
                 x->offset, x->length, which, strerror (errno));
    json_decref (digests);
    return NULL;
  }
  if (buf == NULL) {
    json_decref (digests);
    return NULL;
  }
  return digests;
}

/* The session lock is dropped meanwhile; who ends the session waits. */
json_t *
command_read_back (struct call *call)
{
  struct export *e = call->export;
  struct relay_status s = { .connections = 1 };
  struct relay *relay;
  struct ranges ranges;
  uint64_t which = 0;
  unsigned place;
  json_t *digests;

  if (get_ranges (call, &ranges) == -1 ||
      call_u64 (call, "connection", false, &which) == -1)
    return NULL;
  relay = place_borrow (e, &place);
  if (relay == NULL && place != PLACE_LOCAL)
    return call_fail (call, "BadArgument",
                      "read-back: a pivot must be prepared first");
  pthread_mutex_unlock (&e->session.lock);
  if (relay != NULL)
    relay_get_status (relay, &s);
  if (which < s.connections)
    digests = read_ranges (call, relay, which, &ranges);
  else
    digests = call_fail (call, "BadDestination",
                         "read-back: the proxy has %u connections to the "
                         "destination, none of number %" PRIu64,
                         s.connections, which);
  place_leave (e, place);
  pthread_mutex_lock (&e->session.lock);
  if (digests == NULL)
    return NULL;
  return json_pack ("{s:o, s:i}", "sha256", digests, "connections",
                    (int)s.connections);
}
