/* SPDX-License-Identifier: BSD-3-Clause */
/* A filter is not told the descriptors of the connections.  But they are the
 * connected sockets of this process that have the local address of a listening
 * socket, ours apart: a plugin's own connections have another.
 */

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include <nbdkit-filter.h>

#include "hangup.h"

#define LISTENERS_MAX 64 /* socket activation can bring several */

union address {
  struct sockaddr any;
  struct sockaddr_un un;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_vm vm;
  char room[sizeof (struct sockaddr_un) + 1]; /* a NUL after any path */
};

/* Written in .after_fork, constant afterwards. */
static union address listeners[LISTENERS_MAX];
static size_t nr_listeners;

/* The address of a stream socket.  False if the descriptor is none. */
static bool
local_address (int fd, bool listening, union address *addr)
{
  int type = 0, accepts = 0;
  socklen_t len = sizeof type;

  memset (addr, 0, sizeof *addr);
  if (getsockopt (fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1 ||
      type != SOCK_STREAM)
    return false;
  len = sizeof accepts;
  if (getsockopt (fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == -1 ||
      (accepts != 0) != listening)
    return false;
  len = sizeof addr->room - 1;
  return getsockname (fd, &addr->any, &len) == 0;
}

/* Whether a listening socket with address 'l' can have accepted one with 'a'.
 * It may listen on all addresses of the host, so the port has to do.
 */
static bool
matches (const union address *l, const union address *a)
{
  if (l->any.sa_family != a->any.sa_family)
    return false;
  switch (l->any.sa_family) {
  case AF_UNIX:
    return memcmp (l->un.sun_path, a->un.sun_path, sizeof l->un.sun_path) == 0;
  case AF_INET:
    return l->in.sin_port == a->in.sin_port;
  case AF_INET6:
    return l->in6.sin6_port == a->in6.sin6_port;
  case AF_VSOCK:
    return l->vm.svm_port == a->vm.svm_port;
  default:
    return false;
  }
}

static void
remember_listener (int fd, int ours)
{
  if (fd != ours && nr_listeners < LISTENERS_MAX &&
      local_address (fd, true, &listeners[nr_listeners]))
    nr_listeners++;
}

static bool
is_socket (int fd)
{
  struct stat st;

  return fstat (fd, &st) == 0 && S_ISSOCK (st.st_mode);
}

static void
hang_up_copy (int copy)
{
  union address addr;

  if (!local_address (copy, false, &addr))
    return;
  for (size_t i = 0; i < nr_listeners; i++)
    if (matches (&listeners[i], &addr)) {
      shutdown (copy, SHUT_RD);
      return;
    }
}

/* The descriptor is copied before it is looked at closely: nbdkit may close it
 * at any time, and the number may be another's then.  But no descriptor of a
 * file may be closed here, since that drops the plugin's POSIX locks on it,
 * with writes under way: only sockets are copied, and where the number has
 * become a file's in that moment the copy stays (the process is ending).
 */
static void
hang_up (int fd, int unused)
{
  int copy;

  (void)unused;
  if (!is_socket (fd))
    return;
  copy = fcntl (fd, F_DUPFD_CLOEXEC, 0);
  if (copy == -1 || !is_socket (copy))
    return;
  hang_up_copy (copy);
  close (copy);
}

static void
for_each_fd (void (*f) (int fd, int arg), int arg)
{
  DIR *dir = opendir ("/proc/self/fd");
  const struct dirent *d;

  if (dir == NULL) {
    nbdkit_debug ("migrate: /proc/self/fd: %m");
    return;
  }
  while ((d = readdir (dir)) != NULL)
    if (d->d_name[0] != '.')
      f (atoi (d->d_name), arg);
  closedir (dir);
}

void
hangup_init (int ours)
{
  nr_listeners = 0;
  for_each_fd (remember_listener, ours);
}

void
hangup_guests (void)
{
  for_each_fd (hang_up, 0);
}

const char *
hangup_listener_path (void)
{
  for (size_t i = 0; i < nr_listeners; i++)
    if (listeners[i].any.sa_family == AF_UNIX &&
        listeners[i].un.sun_path[0] == '/')
      return listeners[i].un.sun_path;
  return NULL;
}
