/* SPDX-License-Identifier: BSD-3-Clause */

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "show/notify.h"
#include "show/progress-text.h"

#define STATUS_MAX 512

static int notify_fd = -1;
static char last[STATUS_MAX];

/* A path, or '@' and the name of an abstract one. */
static socklen_t
address_of (const char *path, struct sockaddr_un *sun)
{
  const size_t len = strlen (path);

  *sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
  if (len < 2 || len >= sizeof sun->sun_path ||
      (path[0] != '/' && path[0] != '@'))
    return 0;
  memcpy (sun->sun_path, path, len);
  if (path[0] == '@')
    sun->sun_path[0] = '\0';
  return (socklen_t)(offsetof (struct sockaddr_un, sun_path) + len);
}

void
notify_open (void)
{
  const char *path = getenv ("NOTIFY_SOCKET");
  struct sockaddr_un sun;
  socklen_t len;

  if (path == NULL)
    return;
  len = address_of (path, &sun);
  unsetenv ("NOTIFY_SOCKET");
  if (len == 0)
    return;
  notify_fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (notify_fd != -1 &&
      connect (notify_fd, (const struct sockaddr *)&sun, len) == -1) {
    close (notify_fd);
    notify_fd = -1;
  }
}

static void
tell (const char *text)
{
  if (notify_fd != -1)
    (void)!send (notify_fd, text, strlen (text), MSG_NOSIGNAL);
}

void
notify_ready (void)
{
  tell ("READY=1");
}

void
notify_progress (const json_t *progress)
{
  CLEANUP_FREE char *text = NULL;
  char status[STATUS_MAX];

  if (notify_fd == -1)
    return;
  text = progress_text (progress, false, 0);
  if (text == NULL)
    return;
  snprintf (status, sizeof status, "STATUS=%s", text);
  if (strcmp (status, last) == 0)
    return;
  strcpy (last, status);
  tell (status);
}

void
notify_stopping (void)
{
  tell ("STOPPING=1");
}
