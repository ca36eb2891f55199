/* SPDX-License-Identifier: BSD-3-Clause */
/* A destination for the relay's tests: nbdkit with the lossy plugin, which can
 * be killed and started again on the same socket and file.
 */

#ifndef NBDMIGRATE_SERVER_H
#define NBDMIGRATE_SERVER_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SERVER_ARGS_MAX 32
#define SERVER_TRIES 3000 /* of 10 ms: an upper bound, not a time to wait */

struct server {
  char dir[32];
  char socket[64];
  char file[64];
  char uri[128];
  pid_t pid;
};

static inline void
server_pause (void)
{
  const struct timespec ten_ms = { 0, 10000000 };

  nanosleep (&ten_ms, NULL);
}

static inline void
server_die (const char *what)
{
  perror (what);
  exit (EXIT_FAILURE);
}

/* Directory and file; no process yet. */
static inline void
server_init (struct server *s, uint64_t bytes, uint8_t fill)
{
  uint8_t *image = malloc (bytes + 1);
  int fd;

  strcpy (s->dir, "/tmp/test-relay-XXXXXX");
  if (image == NULL || mkdtemp (s->dir) == NULL)
    server_die ("making a directory");
  snprintf (s->socket, sizeof s->socket, "%s/s", s->dir);
  snprintf (s->file, sizeof s->file, "%s/disk", s->dir);
  snprintf (s->uri, sizeof s->uri, "nbd+unix:///?socket=%s", s->socket);
  s->pid = 0;
  memset (image, fill, bytes);
  fd = open (s->file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd == -1 || write (fd, image, bytes) != (ssize_t)bytes)
    server_die (s->file);
  close (fd);
  free (image);
}

static inline bool
server_accepts (const struct server *s)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  bool ok;

  strcpy (addr.sun_path, s->socket);
  ok = connect (fd, (struct sockaddr *)&addr, sizeof addr) == 0;
  close (fd);
  return ok;
}

/* Run argv[0] (from PATH) and wait until it listens on the socket. */
static inline void
server_run (struct server *s, char *const argv[])
{
  unsigned tries = SERVER_TRIES;

  unlink (s->socket);
  s->pid = fork ();
  if (s->pid == -1)
    server_die ("fork");
  if (s->pid == 0) {
    execvp (argv[0], argv);
    perror (argv[0]);
    _exit (127);
  }
  while (!server_accepts (s)) {
    if (--tries == 0 || waitpid (s->pid, NULL, WNOHANG) != 0) {
      fprintf (stderr, "%s does not start\n", argv[0]);
      exit (EXIT_FAILURE);
    }
    server_pause ();
  }
}

/* nbdkit with the lossy plugin; 'args' (separated by one space, those that
 * begin with '-' are nbdkit's own) may be NULL.
 */
static inline void
server_start (struct server *s, const char *args)
{
  const char *build = getenv ("BUILD") ? getenv ("BUILD") : "build";
  char plugin[4096], file[128];
  char *argv[SERVER_ARGS_MAX] = { "nbdkit", "-f", "-U", s->socket };
  char *copy = strdup (args ? args : ""), *save = NULL;
  unsigned n = 4;

  snprintf (plugin, sizeof plugin, "%s/tests/nbdkit-lossy-plugin.so", build);
  snprintf (file, sizeof file, "file=%s", s->file);
  for (int pass = 0; pass < 2; ++pass) {
    char *words = strdup (copy);

    for (char *w = strtok_r (words, " ", &save); w;
         w = strtok_r (NULL, " ", &save)) {
      if ((w[0] == '-') == (pass == 0) && n < SERVER_ARGS_MAX - 4)
        argv[n++] = strdup (w);
    }
    if (pass == 0) {
      argv[n++] = plugin;
      argv[n++] = file;
    }
    free (words);
  }
  argv[n] = NULL;
  server_run (s, argv);
  for (unsigned i = 4; i < n; ++i) {
    if (argv[i] != plugin && argv[i] != file)
      free (argv[i]);
  }
  free (copy);
}

/* SIGSTOP or SIGCONT; returns when it has stopped. */
static inline void
server_signal (const struct server *s, int sig)
{
  int status;

  kill (s->pid, sig);
  while (sig == SIGSTOP && waitpid (s->pid, &status, WUNTRACED) == -1)
    ;
}

/* End it and wait for its end. */
static inline void
server_stop (struct server *s, int sig)
{
  if (s->pid == 0)
    return;
  kill (s->pid, sig);
  while (waitpid (s->pid, NULL, 0) == -1 && errno == EINTR)
    ;
  s->pid = 0;
}

static inline void
server_read_file (const struct server *s, uint8_t *image, uint64_t bytes)
{
  const int fd = open (s->file, O_RDONLY | O_CLOEXEC);

  if (fd == -1 || read (fd, image, bytes) != (ssize_t)bytes)
    server_die (s->file);
  close (fd);
}

static inline void
server_destroy (struct server *s)
{
  server_stop (s, SIGKILL);
  unlink (s->socket);
  unlink (s->file);
  rmdir (s->dir);
}

#endif /* NBDMIGRATE_SERVER_H */
