/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
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
 * that is not known, or there is no memory.
 */
static bool
find_place (struct export *e, char **place)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&e->session.lock);
  enum owner role = tracker_owner (e->tracker);
  const char *uri;

  if (role == OWNER_UNKNOWN)
    return false;
  if (role == OWNER_FENCED)
    role = OWNER_DESTINATION;
  if (tracker_place (e->tracker, role) == PLACE_LOCAL)
    return true;
  uri = role == OWNER_SOURCE ? e->session.source : e->session.destination;
  *place = uri == NULL ? NULL : strdup (uri);
  return *place != NULL;
}

void
mark_follow (struct export *e)
{
  CLEANUP_FREE char *place = NULL, *path = NULL, *why = NULL;
  int r;

  if (config.mark == NULL)
    return;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  path = mark_path (e->name);
  if (path == NULL || !find_place (e, &place))
    return;
  r = mark_file_set (path, place, config.dir, config.state_sync, &why);
  if (r == 1)
    notice ("migrate: export \"%s\": the mark beside its local image, %s, was "
            "%s",
            e->name, path, place != NULL ? "written" : "removed");
  if (r == -1)
    nbdkit_error ("migrate: export \"%s\": the mark beside its local image, "
                  "%s, could not be %s: %s; who owns the disk does not depend "
                  "on it",
                  e->name, path, place != NULL ? "written" : "removed",
                  explain (why));
}
