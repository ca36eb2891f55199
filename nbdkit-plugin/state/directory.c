/* SPDX-License-Identifier: BSD-3-Clause */
/* The directory and what is in it:
 *
 *   lock      locked with flock (2) while in use; never removed, since a lock
 *             on a file that another process has removed protects nothing.
 *             Holds the process id until it is released, and then the names of
 *             the records of those exports of whose writes some may still land
 *             (R17), each in a line "late NAME", and at last a line "."
 *   control   the control socket, mode 0600
 *   state     the owner record (record.h)
 *   history   to which destinations the disk was copied (history-file.h)
 *   owed      whether the next flush has to fail (owed-file.h)
 *   kept      writes that are to be sent again (kept-file.h)
 *   dirty-map what the destination may lack (dirty-map-file.h)
 *
 * Of the last ones each export has its own: NAME for the default export,
 * NAME.EXPORT for another one, .new-NAME while it is being written.
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
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "base/clock.h"
#include "base/config.h"
#include "directory.h"
#include "gaps/run-as.h"
#include "state-file.h"

#define LOCK_NAME "lock"
#define SOCKET_NAME "control"

/* The files that each export has. */
static const char *const export_files[] = { "state", "history", "owed", "kept",
                                            "dirty-map" };

static int dir_fd = -1;
static int lock_fd = -1;
static int listen_fd = -1;
static int64_t unclean_ms;
static char *late_names; /* the lines; NULL: all may be late */

static int
open_directory (bool *created)
{
  CLEANUP_FREE char *why = NULL;

  *created = mkdir (config.dir, 0700) == 0;
  if (!*created && errno != EEXIST) {
    nbdkit_error ("migrate-dir: cannot make the directory %s: %m", config.dir);
    return -1;
  }
  dir_fd = state_dir_open (config.dir, run_as_user (), &why);
  if (dir_fd != -1)
    return 0;
  nbdkit_error ("migrate-dir: the directory %s: %s", config.dir,
                why ? why : strerror (errno));
  return -1;
}

/* The path of what is in the directory, to be freed; NULL is reported. */
static char *
path_of (const char *name)
{
  char *path;

  if (asprintf (&path, "%s/%s", config.dir, name) != -1)
    return path;
  nbdkit_error ("asprintf: %m");
  return NULL;
}

/* What is going to be given away must be ours alone. */
static int
check_links (int fd, const char *path)
{
  struct stat st;

  if (fstat (fd, &st) == -1) {
    nbdkit_error ("migrate-dir: looking at %s: %m", path);
    return -1;
  }
  if (st.st_nlink == 1)
    return 0;
  nbdkit_error ("migrate-dir: %s is not a file of its own, it has another "
                "name (a hard link) as well: remove that, or move this away",
                path);
  return -1;
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

/* ---- What is in it ------------------------------------------------------ */

static bool
is_file_of (const char *name, const char *kind)
{
  const size_t len = strlen (kind);

  return strncmp (name, kind, len) == 0 &&
         (name[len] == '\0' || name[len] == '.');
}

static bool
is_export_file (const char *name)
{
  if (strncmp (name, STATE_FILE_NEW, strlen (STATE_FILE_NEW)) == 0)
    name += strlen (STATE_FILE_NEW);
  for (size_t i = 0; i < sizeof export_files / sizeof export_files[0]; i++) {
    if (is_file_of (name, export_files[i]))
      return true;
  }
  return false;
}

static bool
is_ours (const char *name)
{
  return strcmp (name, LOCK_NAME) == 0 || strcmp (name, SOCKET_NAME) == 0 ||
         is_export_file (name);
}

/* Call f for each name in the directory until it does not return 0, and return
 * that.  -1: it cannot be read (reported).
 */
static int
foreach_name (int (*f) (const char *name, uid_t user), uid_t user)
{
  const int fd = openat (dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *dir = fd == -1 ? NULL : fdopendir (fd);
  const struct dirent *d;
  int r = 0;

  if (dir == NULL) {
    nbdkit_error ("migrate-dir: cannot read the directory %s: %m", config.dir);
    if (fd != -1)
      close (fd);
    return -1;
  }
  while (r == 0 && (errno = 0, d = readdir (dir)) != NULL)
    if (strcmp (d->d_name, ".") != 0 && strcmp (d->d_name, "..") != 0)
      r = f (d->d_name, user);
  if (r == 0 && errno != 0) {
    nbdkit_error ("migrate-dir: reading the directory %s: %m", config.dir);
    r = -1;
  }
  closedir (dir);
  return r;
}

/* ---- What the process before has left ---------------------------------- */

#define LATE "late "
#define LATE_END ".\n"   /* the last line: they are all there */
#define LATE_MAX 1048576 /* bytes of such lines */

/* All lines, or NULL if that is not what is there. */
static char *
read_late_names (size_t bytes)
{
  char *text = bytes <= LATE_MAX ? malloc (bytes + 1) : NULL;
  const char *line = text;

  if (text == NULL ||
      state_file_read (lock_fd, (uint8_t *)text, bytes, 0) == -1)
    goto no;
  text[bytes] = '\0';
  while (strcmp (line, LATE_END) != 0) {
    if (strncmp (line, LATE, strlen (LATE)) != 0 || strchr (line, '\n') == NULL)
      goto no;
    line = strchr (line, '\n') + 1;
  }
  return text;

no:
  free (text);
  return NULL;
}

static int
is_left (const char *name, uid_t user)
{
  (void)user;
  return is_ours (name) && strcmp (name, LOCK_NAME) != 0;
}

/* How the process before this one ended.  One whose lock was removed cannot
 * have said that; where there is nothing else of ours, there was none.
 */
static void
note_end (bool is_new)
{
  struct stat st;

  unclean_ms = 0;
  if (is_new)
    unclean_ms = foreach_name (is_left, 0) != 0 ? clock_ms () : 0;
  else if (fstat (lock_fd, &st) == -1)
    unclean_ms = clock_ms ();
  else if (st.st_size > 0) {
    unclean_ms = clock_ms ();
    late_names = read_late_names (st.st_size);
  }
}

static bool
is_named_late (const char *name)
{
  CLEANUP_FREE char *line = NULL;

  return asprintf (&line, LATE "%s\n", name) == -1 ||
         strstr (late_names, line) != NULL;
}

int64_t
directory_unclean_ms (const char *record_name)
{
  return late_names == NULL || record_name == NULL ||
             is_named_late (record_name)
           ? unclean_ms
           : 0;
}

static int
take_lock (bool new_directory)
{
  CLEANUP_FREE char *path = path_of (LOCK_NAME), *why = NULL;
  const bool is_new = !new_directory &&
                      faccessat (dir_fd, LOCK_NAME, F_OK, AT_EACCESS) == -1 &&
                      errno == ENOENT;

  if (path == NULL)
    return -1;
  lock_fd = state_file_open (path, O_RDWR | O_CREAT, &why);
  if (lock_fd == -1) {
    nbdkit_error ("migrate-dir: cannot open %s: %s", path,
                  why ? why : strerror (errno));
    return -1;
  }
  if (check_links (lock_fd, path) == -1)
    return -1;
  if (flock (lock_fd, LOCK_EX | LOCK_NB) == 0) {
    note_end (is_new);
    return 0;
  }
  if (errno == EWOULDBLOCK)
    nbdkit_error ("migrate-dir: %s is in use by another nbdkit (process %ld): "
                  "each needs a directory of its own",
                  config.dir, lock_owner ());
  else
    nbdkit_error ("migrate-dir: cannot lock %s: %m", path);
  return -1;
}

/* ---- The user of nbdkit ------------------------------------------------ */

static int
is_strange (const char *name, uid_t user)
{
  (void)user;
  return !is_ours (name);
}

static int
fail_to_give (const char *path, uid_t user)
{
  nbdkit_error ("migrate-dir: cannot give %s to user %" PRIuMAX " (-u): %m",
                path, (uintmax_t)user);
  return -1;
}

/* Not for what it is, but for want of something. */
static bool
is_want (int error)
{
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO;
}

/* What is not to be believed is left alone: whoever needs it says so. */
static int
give_file (const char *name, uid_t user)
{
  CLEANUP_FREE char *path = NULL, *why = NULL;
  CLEANUP_CLOSE int fd = -1;

  if (!is_export_file (name))
    return 0;
  path = path_of (name);
  if (path == NULL)
    return -1;
  fd = state_file_open (path, O_RDWR, &why);
  if (fd == -1)
    return is_want (errno) ? fail_to_give (path, user) : 0;
  if (check_links (fd, path) == -1)
    return -1;
  return fchown (fd, user, -1) == 0 ? 0 : fail_to_give (path, user);
}

/* A directory that was there before and holds other things is left alone: if it
 * cannot be used, directory_check says so.  1: it is, 0: it is given away, -1:
 * error (reported).
 */
static int
is_left_alone (bool created, uid_t user)
{
  struct stat st;

  if (created || (fstat (dir_fd, &st) == 0 && st.st_uid == user))
    return 0;
  return foreach_name (is_strange, user);
}

/* Give everything to the user that nbdkit is going to run as.  The lock comes
 * last: the next one believes it only in a directory of that user, or where
 * both are root's.
 */
static int
give_away (bool created)
{
  const uid_t user = run_as_user ();
  const int left = user == geteuid () ? 1 : is_left_alone (created, user);

  if (left != 0)
    return left == 1 ? 0 : -1;
  nbdkit_debug ("migrate: giving %s to user %" PRIuMAX, config.dir,
                (uintmax_t)user);
  if (foreach_name (give_file, user) == -1)
    return -1;
  if (fchownat (dir_fd, SOCKET_NAME, user, -1, AT_SYMLINK_NOFOLLOW) == -1 ||
      fchown (dir_fd, user, -1) == -1 || fchown (lock_fd, user, -1) == -1)
    return fail_to_give (config.dir, user);
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

  if (open_directory (&created) == 0 && take_lock (created) == 0 &&
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
  /* As long as this stands there the end was not clean (directory_unclean_ms);
   * and the next one who wants the lock can say who has it.  At no moment is it
   * empty.  A file system that has no room for it is no reason to serve nobody.
   */
  if (state_file_write (lock_fd, (const uint8_t *)text, len, 0) == -1 ||
      ftruncate (lock_fd, len) == -1 ||
      (config.state_sync && fsync (lock_fd) == -1))
    nbdkit_error ("migrate-dir: writing to its file " LOCK_NAME ": %m: should "
                  "this process be killed, the next one takes its end for a "
                  "clean one and waits for no late write of its; make room "
                  "and restart");
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

struct late_writer {
  bool (*is_late) (const char *record_name);
  FILE *lines;
};

static struct late_writer late_writer;

/* For foreach_name. */
static int
write_if_late (const char *name, uid_t user)
{
  const struct late_writer *w = &late_writer;

  (void)user;
  if (is_file_of (name, "state") && w->is_late (name))
    fprintf (w->lines, LATE "%s\n", name);
  return ferror (w->lines) ? -1 : 0;
}

/* NULL: they cannot be told. */
static char *
list_late (bool (*is_late) (const char *record_name))
{
  char *text = NULL;
  size_t bytes;
  bool ok;

  late_writer.is_late = is_late;
  late_writer.lines = open_memstream (&text, &bytes);
  if (late_writer.lines == NULL)
    return NULL;
  ok = foreach_name (write_if_late, geteuid ()) == 0;
  ok = ok && (ftell (late_writer.lines) == 0 ||
              fputs (LATE_END, late_writer.lines) >= 0);
  if (fclose (late_writer.lines) == 0 && ok)
    return text;
  free (text);
  return NULL;
}

/* Over the process id, which stays if anything fails. */
static void
write_end (bool (*is_late) (const char *record_name))
{
  CLEANUP_FREE char *text = list_late (is_late);
  const size_t bytes = text == NULL ? 0 : strlen (text);

  if (text == NULL ||
      state_file_write (lock_fd, (const uint8_t *)text, bytes, 0) == -1 ||
      ftruncate (lock_fd, bytes) == -1)
    nbdkit_debug ("migrate: cannot write to %s/" LOCK_NAME ": %m", config.dir);
}

void
directory_release (bool (*is_late) (const char *record_name))
{
  if (listen_fd != -1 && unlinkat (dir_fd, SOCKET_NAME, 0) == -1)
    nbdkit_debug ("migrate: cannot remove %s: %m", config.control);
  if (is_late != NULL && lock_fd != -1)
    write_end (is_late);
  free (late_names);
  late_names = NULL;
  close_fd (&listen_fd);
  close_fd (&lock_fd);
  close_fd (&dir_fd);
}
