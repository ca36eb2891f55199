/* SPDX-License-Identifier: BSD-3-Clause */
/* A look at the destination, over a connection of the caller's choice: each of
 * them is to be seen to reach the disk that was copied to.  So nothing is tried
 * again over another one, and a loss is an error.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "internal.h"

/* The connection of this number and what is there; NULL: it is not up.  L. */
static struct connection *
find (const struct relay *r, unsigned which)
{
  return r->remote.up && which < r->remote.nr_connections
           ? r->remote.connections[which]
           : NULL;
}

/* One command, in the same critical section as the choice of the connection:
 * from then on it counts as in use and is not freed.
 */
static int
read_piece (struct relay *r, unsigned which, uint8_t *data, uint64_t offset,
            uint64_t length)
{
  struct connection *c;
  struct batch b;
  int result;

  batch_init (&b, 0);
  batch_add (&b, COMMAND_READ, 0, offset, length, data);
  pthread_mutex_lock (&r->remote.lock);
  c = find (r, which);
  if (c != NULL)
    batch_link (&r->remote, &b, c);
  pthread_mutex_unlock (&r->remote.lock);
  batch_issue (&b);
  result = batch_wait (&r->remote, &b);
  batch_destroy (&b);
  return result == REMOTE_LOST ? ENOTCONN : result;
}

static int
get_blocks (struct relay *r, unsigned which, uint64_t *minimum,
            uint64_t *maximum)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->remote.lock);
  const struct connection *c = find (r, which);

  if (c == NULL)
    return ENOTCONN;
  *minimum = c->destination.minimum;
  *maximum = c->destination.maximum;
  return 0;
}

/* Whole blocks. */
static int
read_blocks (struct relay *r, unsigned which, uint64_t maximum, uint8_t *data,
             uint64_t offset, uint64_t length)
{
  uint64_t done, n;
  int result = 0;

  for (done = 0; result == 0 && done < length; done += n) {
    n = length - done < maximum ? length - done : maximum;
    result = read_piece (r, which, data + done, offset + done, n);
  }
  return result;
}

int
relay_read_back (struct relay *r, unsigned which, void *buf, size_t count,
                 uint64_t offset)
{
  CLEANUP_FREE uint8_t *bounce = NULL;
  uint64_t minimum, maximum, start, end;
  int result = get_blocks (r, which, &minimum, &maximum);

  if (result == 0) {
    start = offset / minimum * minimum;
    end = (offset + count + minimum - 1) / minimum * minimum;
    bounce = malloc (end - start);
    result = bounce == NULL
               ? ENOMEM
               : read_blocks (r, which, maximum, bounce, start, end - start);
    if (result == 0)
      memcpy (buf, bounce + (offset - start), count);
  }
  if (result == 0)
    return 0;
  errno = result;
  return -1;
}
