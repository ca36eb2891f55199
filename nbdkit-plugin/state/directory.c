/* SPDX-License-Identifier: BSD-3-Clause */
/* The directory and what is in it:
 *
 *   lock      locked with flock (2) while in use; never removed, since a lock
 *             on a file that another process has removed protects nothing
 *   control   the control socket, mode 0600
 *
 * A socket that is there although we have the lock was left behind by a
 * process that was killed, and is removed.  nbdkit may change its user later
 * (run-as.h), so everything is given to that user.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "base/config.h"
#include "directory.h"
#include "gaps/run-as.h"

#define LOCK_NAME "lock"
#define SOCKET_NAME "control"
#define STATE_NAME "state" /* also state.NAME */

static int dir_fd = -1;
static int lock_fd = -1;
static int listen_fd = -1;

static int
open_directory (bool *created)
{
  struct stat st;

  *created = mkdir (config.dir, 0700) == 0;
  if (!*created && errno != EEXIST) {
    nbdkit_error ("migrate-dir: cannot make the directory %s: %m", config.dir);
    return -1;
  }
  dir_fd = open (config.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir_fd == -1 || fstat (dir_fd, &st) == -1) {
    nbdkit_error ("migrate-dir: cannot open the directory %s: %m", config.dir);
    return -1;
  }
  if (st.st_mode & S_IWOTH) {
    nbdkit_error ("migrate-dir: everybody can write to %s (mode %04o): use a "
                  "directory of its own, with mode 0700",
                  config.dir, (unsigned)st.st_mode & 07777);
    return -1;
  }
  return 0;
}

/* Who has the lock, as far as its file tells. */
static long
lock_owner (void)
{
  char text[32] = "";
  long pid = 0;

  if (pread (lock_fd, text, sizeof text - 1, 0) > 0)
    sscanf (text, "%ld", &pid);
  return pid;
}

static int
take_lock (void)
{
  struct stat st;

  lock_fd =
    openat (dir_fd, LOCK_NAME,
            O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (lock_fd == -1 || fstat (lock_fd, &st) == -1) {
    nbdkit_error ("migrate-dir: cannot open %s/" LOCK_NAME ": %m", config.dir);
    return -1;
  }
  /* It is going to be given away: it must be ours alone. */
  if (!S_ISREG (st.st_mode) || st.st_nlink != 1) {
    nbdkit_error ("migrate-dir: %s/" LOCK_NAME " is not a file of its own: "
                  "remove it",
                  config.dir);
    return -1;
  }
  if (flock (lock_fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  if (errno == EWOULDBLOCK)
    nbdkit_error ("migrate-dir: %s is in use by another nbdkit (process %ld): "
                  "each needs a directory of its own",
                  config.dir, lock_owner ());
  else
    nbdkit_error ("migrate-dir: cannot lock %s/" LOCK_NAME ": %m", config.dir);
  return -1;
}

/* Whether nothing is in the directory but what this filter puts there. */
static bool
holds_only_ours (void)
{
  const int fd = openat (dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd == -1 ? NULL : fdopendir (fd);
  const struct dirent *d;
  bool r = dir != NULL;

  if (dir == NULL) {
    if (fd != -1)
      close (fd);
    return false;
  }
  while (r && (d = readdir (dir)) != NULL)
    r = strcmp (d->d_name, ".") == 0 || strcmp (d->d_name, "..") == 0 ||
        strcmp (d->d_name, LOCK_NAME) == 0 ||
        strcmp (d->d_name, SOCKET_NAME) == 0 ||
        strncmp (d->d_name, STATE_NAME, strlen (STATE_NAME)) == 0;
  closedir (dir);
  return r;
}

/* Give everything to the user that nbdkit is going to run as.  A directory
 * that was there before and holds other things is left alone: if it cannot be
 * used, directory_check says so.
 */
static int
give_away (bool created)
{
  const uid_t user = run_as_user ();

  if (user == geteuid ())
    return 0;
  nbdkit_debug ("migrate: giving %s to user %" PRIuMAX, config.dir,
                (uintmax_t)user);
  if (((created || holds_only_ours ()) && fchown (dir_fd, user, -1) == -1) ||
      fchown (lock_fd, user, -1) == -1 ||
      fchownat (dir_fd, SOCKET_NAME, user, -1, AT_SYMLINK_NOFOLLOW) == -1) {
    nbdkit_error ("migrate-dir: cannot give %s to user %" PRIuMAX " (-u): %m",
                  config.dir, (uintmax_t)user);
    return -1;
  }
  return 0;
}

static int
remove_stale_socket (void)
{
  struct stat st;

  if (fstatat (dir_fd, SOCKET_NAME, &st, AT_SYMLINK_NOFOLLOW) == -1) {
    if (errno == ENOENT)
      return 0;
  }
  else if (!S_ISSOCK (st.st_mode)) {
    nbdkit_error ("migrate-dir: %s is not a socket: remove it", config.control);
    return -1;
  }
  else {
    nbdkit_debug ("migrate: removing the stale socket %s", config.control);
    if (unlinkat (dir_fd, SOCKET_NAME, 0) == 0)
      return 0;
  }
  nbdkit_error ("migrate-dir: cannot remove the stale socket %s: %m",
                config.control);
  return -1;
}

static int
bind_and_listen (void)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };
  mode_t mask;
  int r;

  /* config_complete has checked the length. */
  memcpy (addr.sun_path, config.control, strlen (config.control) + 1);
  listen_fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listen_fd == -1) {
    nbdkit_error ("migrate-dir: cannot make a socket: %m");
    return -1;
  }
  mask = umask (0177);
  r = bind (listen_fd, (struct sockaddr *)&addr, sizeof addr);
  umask (mask);
  if (r == -1 || listen (listen_fd, SOMAXCONN) == -1) {
    nbdkit_error ("migrate-dir: cannot listen on %s: %m", config.control);
    return -1;
  }
  return 0;
}

int
directory_claim (void)
{
  bool created;

  if (open_directory (&created) == 0 && take_lock () == 0 &&
      remove_stale_socket () == 0 && bind_and_listen () == 0 &&
      give_away (created) == 0)
    return 0;
  return -1;
}

int
directory_check (void)
{
  char text[32];
  const int len = snprintf (text, sizeof text, "%ld\n", (long)getpid ());

  if (faccessat (AT_FDCWD, config.dir, R_OK | W_OK | X_OK, AT_EACCESS) == -1 ||
      faccessat (AT_FDCWD, config.control, R_OK | W_OK, AT_EACCESS) == -1) {
    nbdkit_error ("migrate-dir: user %" PRIuMAX " cannot use %s: %m; give it "
                  "that directory, and let it pass those above it",
                  (uintmax_t)geteuid (), config.dir);
    return -1;
  }
  /* Only for the message of the next one who wants the lock. */
  if (ftruncate (lock_fd, 0) == -1 || pwrite (lock_fd, text, len, 0) != len)
    nbdkit_debug ("migrate: cannot write to %s/" LOCK_NAME ": %m", config.dir);
  return 0;
}

int
directory_socket (void)
{
  return listen_fd;
}

static void
close_fd (int *fd)
{
  if (*fd != -1)
    close (*fd);
  *fd = -1;
}

void
directory_release (void)
{
  if (listen_fd != -1 && unlinkat (dir_fd, SOCKET_NAME, 0) == -1)
    nbdkit_debug ("migrate: cannot remove %s: %m", config.control);
  close_fd (&listen_fd);
  close_fd (&lock_fd);
  close_fd (&dir_fd);
}
