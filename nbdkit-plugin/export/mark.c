/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "base/config.h"
#include "base/notice.h"
#include "export.h"
#include "mark.h"
#include "state-file.h"
#include "state/mark-file.h"

/* Held over the file I/O, so that the latest who looks writes last.  The
 * session lock is taken under it.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The file of this export; the caller frees it.  NULL: no memory. */
static char *
mark_path (const char *export_name)
{
  const char *slash = strrchr (config.mark, '/'); /* it is absolute */
  CLEANUP_FREE char *dir = strndup (config.mark, slash - config.mark);

  return dir == NULL ? NULL : state_file_path (dir, slash + 1, export_name);
}

static const char *
explain (const char *why)
{
  return why != NULL ? why : strerror (errno);
}

int
mark_check (void)
{
  CLEANUP_FREE char *dir = NULL, *why = NULL;

  if (config.mark == NULL)
    return 0;
  dir = strndup (config.mark, strrchr (config.mark, '/') - config.mark + 1);
  if (dir == NULL || access (dir, W_OK | X_OK) == -1) {
    nbdkit_error ("migrate-mark=%s: no file can be made in its directory: %m: "
                  "let the user of nbdkit write there, or name another one",
                  config.mark);
    return -1;
  }
  if (mark_file_check (config.mark, &why) == -1) {
    nbdkit_error ("migrate-mark=%s: %s", config.mark, explain (why));
    return -1;
  }
  return 0;
}

/* Where the disk is if not in the local image; the caller frees *place.  False:
 * that is not known, or there is no memory, or it is not settled: a commit may
 * still be taken back, and its session's end comes here.
 */
static bool
find_place (struct export *e, struct mark *m, bool ended, char **place)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);
  enum owner role = tracker_owner (e->tracker);
  const char *uri;

  if (role == OWNER_UNKNOWN || (e->session.client != NULL && !ended))
    return false;
  m->handed_over = role == OWNER_FENCED;
  if (role == OWNER_FENCED)
    role = OWNER_DESTINATION;
  if (tracker_place (e->tracker, role) == PLACE_LOCAL)
    return true;
  uri = role == OWNER_SOURCE ? e->session.source : e->session.destination;
  *place = uri == NULL ? NULL : strdup (uri);
  m->place = *place;
  return *place != NULL;
}

/* Whoever asks for the status comes here, too: the same is said once. */
static void
report (struct export *e, const char *path, const char *done, const char *why)
{
  CLEANUP_FREE char *text = NULL;

  if (asprintf (&text, "%s: %s", done, why) == -1)
    text = NULL;
  if (text != NULL && e->mark_why != NULL && strcmp (e->mark_why, text) == 0)
    return;
  nbdkit_error ("migrate: export \"%s\": the mark beside its local image, "
                "%s, could not be %s: %s; who owns the disk does not depend "
                "on it",
                e->name, path, done, why);
  free (e->mark_why);
  e->mark_why = text;
  text = NULL;
}

void
mark_follow (struct export *e, bool ended)
{
  CLEANUP_FREE char *place = NULL, *path = NULL, *why = NULL;
  struct mark m = { .dir = config.dir, .origin = e->origin };
  const char *done;
  int r;

  if (config.mark == NULL)
    return;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  path = mark_path (e->name);
  if (path == NULL || !find_place (e, &m, ended, &place))
    return;
  done = place != NULL ? "written" : "removed";
  r = mark_file_set (path, &m, config.state_sync, &why);
  if (r == -1) {
    report (e, path, done, explain (why));
    return;
  }
  free (e->mark_why);
  e->mark_why = NULL;
  if (r == 1)
    notice ("migrate: export \"%s\": the mark beside its local image, %s, was "
            "%s",
            e->name, path, done);
}
