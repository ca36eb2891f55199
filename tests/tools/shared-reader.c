/* SPDX-License-Identifier: BSD-3-Clause */
/* A client that reads through shared memory, for tests.
 *
 * shared-reader CONTROL URI [--bytes=N] [--unsealed] [--file=PATH] [--early]
 *
 * Connects to the control socket and to the export, begins a session with a
 * memfd, and prints the answer.  --bytes: of the whole memfd; --unsealed: it
 * can be shortened; --file: this file is sent instead; --early: the NBD
 * connection is made first.  Then for each line of standard input it prints
 * one:
 *
 * read OFFSET LENGTH   posts a slot and sends CACHE: "filled equal",
 *                      "filled different" (from what NBD reads), or the state
 * post OFFSET LENGTH   posts a slot: "posted"
 * cache OFFSET LENGTH  sends CACHE alone: "ok", or the error
 * look                 the state of the slot that was posted last, and whether
 *                      its place is "untouched" or "written"
 * end                  ends the session, and prints the answer
 *
 * shared-reader --cache URI OFFSET LENGTH: sends CACHE, as any client.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <libnbd.h>

#include "cleanup.h"
#include "protocol.h"
#include "shared-memory.h"

#define DATA_BYTES (1 << 20)
#define PATTERN 0x5c

static struct shared_memory memory;
static struct shared_slot *slot;
static struct nbd_handle *nbd;
static struct line_reader reader;
static int control = -1;

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "shared-reader: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static void __attribute__ ((noreturn)) die_nbd (void)
{
  fprintf (stderr, "shared-reader: %s\n", nbd_get_error ());
  exit (EXIT_FAILURE);
}

/* ---- the control connection --------------------------------------------- */

static char *
next_line (void)
{
  char *line;

  while ((line = line_reader_next (&reader)) == NULL)
    if (line_reader_receive (&reader, control) <= 0)
      die ("the control connection");
  return line;
}

static void
open_control (const char *path)
{
  struct sockaddr_un address = { .sun_family = AF_UNIX };

  control = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  strncpy (address.sun_path, path, sizeof address.sun_path - 1);
  if (connect (control, (struct sockaddr *)&address, sizeof address) == -1)
    die (path);
  line_reader_init (&reader);
  free (next_line ());
}

/* The answer; the caller frees it. */
static char *
ask (const char *command, json_t *arguments, const int *fds, size_t n)
{
  CLEANUP_JSON json_t *message = protocol_command (command, arguments);

  if (protocol_send (control, message, fds, n) == -1)
    die (command);
  return next_line ();
}

static void
print_answer (char *line)
{
  printf ("%s\n", line);
  free (line);
}

/* ---- the memory --------------------------------------------------------- */

static int
odd_memory (size_t bytes, bool sealed)
{
  const int fd = memfd_create ("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

  if (fd == -1 || ftruncate (fd, bytes) == -1)
    die ("memfd");
  if (sealed &&
      fcntl (fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
    die ("seals");
  return fd;
}

static int
usual_memory (void)
{
  int fd;

  if (shared_memory_create (&memory, DATA_BYTES, &fd) == -1)
    die ("memfd");
  memset (memory.data, PATTERN, memory.bytes);
  return fd;
}

static void
begin (int fd)
{
  int fds[3];

  if (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == -1)
    die ("socketpair"); /* the first one stays open */
  fds[2] = fd;
  free (ask ("attach", json_object (), NULL, 0));
  print_answer (
    ask ("begin",
         json_pack ("{s:s, s:b}", "destination", "nbd+unix:///?socket=/nowhere",
                    "shared_memory", 1),
         fds + 1, 2));
  close (fd);
}

/* ---- the lines ---------------------------------------------------------- */

static const char *
state_name (enum shared_state state)
{
  static const char *const names[] = { "free", "posted", "taken", "filled" };

  return names[state];
}

static void
post (uint64_t offset, uint32_t length)
{
  slot = shared_memory_post (&memory, offset, length, memory.data);
  if (slot == NULL)
    die ("no slot");
}

static void
read_shared (uint64_t offset, uint32_t length)
{
  CLEANUP_FREE char *same = malloc (length);
  enum shared_state state;

  post (offset, length);
  if (nbd_cache (nbd, length, offset, 0) == -1)
    printf ("error %s: ", strerror (nbd_get_errno ()));
  state = shared_memory_collect (slot);
  if (state == SHARED_FILLED && nbd_pread (nbd, same, length, offset, 0) == 0)
    printf ("filled %s\n",
            memcmp (same, memory.data, length) == 0 ? "equal" : "different");
  else
    printf ("%s\n", state_name (state));
}

static bool
is_untouched (void)
{
  for (uint32_t i = 0; i < memory.bytes; i++)
    if (memory.data[i] != PATTERN)
      return false;
  return true;
}

static void
obey (const char *line)
{
  unsigned long long offset, length;

  if (sscanf (line, "read %llu %llu", &offset, &length) == 2)
    read_shared (offset, (uint32_t)length);
  else if (sscanf (line, "post %llu %llu", &offset, &length) == 2) {
    post (offset, (uint32_t)length);
    printf ("posted\n");
  }
  else if (sscanf (line, "cache %llu %llu", &offset, &length) == 2)
    printf ("%s\n", nbd_cache (nbd, length, offset, 0) == 0
                      ? "ok"
                      : strerror (nbd_get_errno ()));
  else if (strncmp (line, "look", 4) == 0)
    printf ("%s %s\n", state_name (shared_memory_state (slot)),
            is_untouched () ? "untouched" : "written");
  else if (strncmp (line, "end", 3) == 0)
    print_answer (ask ("end", json_object (), NULL, 0));
  else
    die ("no such line");
}

/* ------------------------------------------------------------------------- */

static void
open_nbd (const char *uri)
{
  nbd = nbd_create ();
  if (nbd == NULL || nbd_connect_uri (nbd, uri) == -1)
    die_nbd ();
}

static int
cache_only (const char *uri, const char *offset, const char *length)
{
  open_nbd (uri);
  if (nbd_cache (nbd, strtoull (length, NULL, 10), strtoull (offset, NULL, 10),
                 0) == -1)
    die_nbd ();
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  return EXIT_SUCCESS;
}

int
main (int argc, char *argv[])
{
  const char *file = NULL;
  size_t bytes = 0, allocated = 0;
  bool unsealed = false, early = false;
  CLEANUP_FREE char *line = NULL;
  int fd;

  if (argc == 5 && strcmp (argv[1], "--cache") == 0)
    return cache_only (argv[2], argv[3], argv[4]);
  if (argc < 3)
    die ("usage: shared-reader CONTROL URI [OPTION...]");
  for (int i = 3; i < argc; i++)
    if (strncmp (argv[i], "--bytes=", 8) == 0)
      bytes = strtoull (argv[i] + 8, NULL, 10);
    else if (strncmp (argv[i], "--file=", 7) == 0)
      file = argv[i] + 7;
    else if (strcmp (argv[i], "--unsealed") == 0)
      unsealed = true;
    else if (strcmp (argv[i], "--early") == 0)
      early = true;
  if (early)
    open_nbd (argv[2]);
  open_control (argv[1]);
  if (!early)
    open_nbd (argv[2]);
  fd = file                    ? open (file, O_RDWR | O_CLOEXEC)
       : bytes > 0 || unsealed ? odd_memory (bytes, !unsealed)
                               : usual_memory ();
  if (fd == -1)
    die (file);
  begin (fd);
  fflush (stdout);
  while (getline (&line, &allocated, stdin) > 0) {
    obey (line);
    fflush (stdout);
  }
  nbd_close (nbd);
  shared_memory_unmap (&memory);
  line_reader_destroy (&reader);
  close (control);
  return EXIT_SUCCESS;
}
