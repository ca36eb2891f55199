/* SPDX-License-Identifier: BSD-3-Clause */
/* What a migrator does between take and done, for tests that are the migrator
 * themselves.
 *
 *   copy-extents FROM TO   copies the ranges in the answer to "take", which is
 *                          read from standard input, and flushes TO
 *   copy-extents --read-only FROM
 *                          only reads them
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <libnbd.h>

#include "cleanup.h"

#define PIECE (1024 * 1024)

static char buffer[PIECE];

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "copy-extents: %s: %s\n", what,
           nbd_get_error () ? nbd_get_error () : "");
  exit (EXIT_FAILURE);
}

static struct nbd_handle *
open_uri (const char *uri)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL || nbd_connect_uri (nbd, uri) == -1)
    die (uri);
  return nbd;
}

static void
copy (struct nbd_handle *from, struct nbd_handle *to, uint64_t offset,
      uint64_t length)
{
  while (length > 0) {
    const size_t n = length < PIECE ? length : PIECE;

    if (nbd_pread (from, buffer, n, offset, 0) == -1)
      die ("reading");
    if (to != NULL && nbd_pwrite (to, buffer, n, offset, 0) == -1)
      die ("writing");
    offset += n;
    length -= n;
  }
}

int
main (int argc, char **argv)
{
  const bool read_only = argc == 3 && strcmp (argv[1], "--read-only") == 0;
  CLEANUP_JSON json_t *answer = json_loadf (stdin, 0, NULL);
  json_t *extents =
    json_object_get (json_object_get (answer, "return"), "extents");
  struct nbd_handle *from, *to = NULL;
  json_t *e;
  size_t i;

  if (argc != 3 || !json_is_array (extents)) {
    fprintf (stderr, "usage: copy-extents FROM TO < ANSWER\n");
    return EXIT_FAILURE;
  }
  from = open_uri (argv[read_only ? 2 : 1]);
  if (!read_only)
    to = open_uri (argv[2]);
  json_array_foreach (extents, i, e)
    copy (from, to, json_integer_value (json_array_get (e, 0)),
          json_integer_value (json_array_get (e, 1)));
  if (to != NULL && nbd_flush (to, 0) == -1)
    die ("flushing");
  nbd_close (from);
  nbd_close (to);
  return EXIT_SUCCESS;
}
