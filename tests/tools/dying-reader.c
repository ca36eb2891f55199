/* SPDX-License-Identifier: BSD-3-Clause */
/* A migrator that is about to be killed, for tests.
 *
 * dying-reader CONTROL URI [--alone | --later]
 *
 * Connects to the export and to the control socket, begins a session, asks for
 * 16 MiB in 16 requests at once, and reads no answer: so that one reply blocks,
 * and the others wait behind it.  Prints a line when they are sent, and waits
 * to be killed.  --alone: the filter does not get the socket to the source;
 * --later: it gets it after the session has begun.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <libnbd.h>

#include "cleanup.h"
#include "protocol.h"

#define READS 16
#define READ_BYTES (1 << 20)

static char buffer[READ_BYTES];
static struct line_reader reader;

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "dying-reader: %s: %s, %s\n", what, strerror (errno),
           nbd_get_error () ? nbd_get_error () : "");
  exit (EXIT_FAILURE);
}

static char *
next_line (int control)
{
  char *line;

  while ((line = line_reader_next (&reader)) == NULL)
    if (line_reader_receive (&reader, control) <= 0)
      die ("the control connection");
  return line;
}

static int
open_control (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  const int control = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  strncpy (address.sun_path, path, sizeof address.sun_path - 1);
  if (connect (control, (struct sockaddr *)&address, sizeof address) == -1)
    die (path);
  line_reader_init (&reader);
  free (next_line (control));
  return control;
}

static void
ask (int control, const char *command, json_t *arguments, const int *fds,
     size_t n)
{
  CLEANUP_JSON json_t *message = protocol_command (command, arguments);
  CLEANUP_FREE char *line = NULL;

  if (protocol_send (control, message, fds, n) == -1)
    die (command);
  line = next_line (control);
  if (strstr (line, "\"error\"") != NULL)
    die (line);
}

static void
begin (int control, int source, const char *how)
{
  const bool now = strcmp (how, "") == 0;
  int fds[3];

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
    die ("socketpair"); /* the first one stays open */
  fds[2] = source;
  ask (control, "attach", json_object (), NULL, 0);
  ask (control, "begin",
       json_pack ("{s:s, s:i}", "destination", "nbd+unix:///?socket=/nowhere",
                  "source_sockets", now ? 1 : 0),
       fds + 1, now ? 2 : 1);
  if (strcmp (how, "--later") == 0)
    ask (control, "source-sockets", json_object (), &source, 1);
}

int
main (int argc, char *argv[])
{
  struct nbd_handle *nbd = nbd_create ();
  int control;

  if (argc < 3 || nbd == NULL || nbd_connect_uri (nbd, argv[2]) == -1)
    die ("usage: dying-reader CONTROL URI [--alone | --later]");
  control = open_control (argv[1]);
  begin (control, nbd_aio_get_fd (nbd), argc > 3 ? argv[3] : "");
  for (unsigned i = 0; i < READS; i++)
    if (nbd_aio_pread (nbd, buffer, READ_BYTES, (uint64_t)i * READ_BYTES,
                       NBD_NULL_COMPLETION, 0) == -1)
      die ("reading");
  puts ("reading");
  fflush (stdout);
  for (;;)
    pause ();
}
