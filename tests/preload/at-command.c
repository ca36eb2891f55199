/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded into nbdmigrate with LD_PRELOAD: a signal comes at a chosen step of
 * its conversation with the proxy.
 *
 *   AT_COMMAND=NAME   when that command is sent
 *   AT_COUNT=N        for the N-th time (1)
 *   AT_SIGNAL=N       this signal (9)
 *   AT_WHEN=before    and it is not sent; after: it is, and its answer is not
 * read COMMANDS=FILE     gets the names of all that are sent, a line each
 */

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define NAME_MAX_BYTES 40

typedef ssize_t function (int, const struct msghdr *, int);

/* The command that begins here: false if none does. */
static bool
is_command (const struct msghdr *msg, char name[NAME_MAX_BYTES])
{
  char line[8192]; /* the name comes after the arguments */
  const char *value;
  size_t n;

  if (msg->msg_iovlen == 0)
    return false;
  n = msg->msg_iov[0].iov_len;
  n = n < sizeof line ? n : sizeof line - 1;
  memcpy (line, msg->msg_iov[0].iov_base, n);
  line[n] = '\0';
  value = strstr (line, "\"execute\"");
  return value != NULL &&
         sscanf (value, "\"execute\" : \"%39[a-z-]\"", name) == 1;
}

static void
note (const char *name)
{
  const char *const path = getenv ("COMMANDS");
  const int fd =
    path == NULL ? -1
                 : open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

  if (fd == -1)
    return;
  dprintf (fd, "%s\n", name);
  close (fd);
}

static bool
chosen (const char *name)
{
  const char *const wanted = getenv ("AT_COMMAND");
  const char *const count = getenv ("AT_COUNT");
  static int seen;

  return wanted != NULL && strcmp (name, wanted) == 0 &&
         ++seen == (count != NULL ? atoi (count) : 1);
}

static bool
is_before (void)
{
  const char *const when = getenv ("AT_WHEN");

  return when != NULL && strcmp (when, "before") == 0;
}

static void
strike (void)
{
  const char *const text = getenv ("AT_SIGNAL");

  kill (getpid (), text != NULL ? atoi (text) : SIGKILL);
}

ssize_t
sendmsg (int fd, const struct msghdr *msg, int flags)
{
  function *const real = (function *)dlsym (RTLD_NEXT, "sendmsg");
  char name[NAME_MAX_BYTES];
  bool now;
  ssize_t n;

  if (!is_command (msg, name))
    return real (fd, msg, flags);
  note (name);
  now = chosen (name);
  if (now && is_before ())
    strike ();
  n = real (fd, msg, flags);
  if (now && !is_before ())
    strike ();
  return n;
}
