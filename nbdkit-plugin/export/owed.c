/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "cleanup.h"
#include "export.h"
#include "owed.h"
#include "state-file.h"
#include "state/owed-file.h"

static int
keep (void *opaque, bool owed)
{
  const struct export *e = opaque;
  CLEANUP_FREE char *why = NULL;

  if (owed_file_write (e->owed_path, owed, &why) == 0)
    return 0;
  nbdkit_error ("migrate: export \"%s\": recording in migrate-dir that the "
                "next flush %s: %s",
                e->name,
                owed ? "has to fail, because acknowledged writes may be lost"
                     : "need not fail any more",
                strerror (errno));
  nbdkit_debug ("migrate: writing %s: %s", e->owed_path, why ? why : "");
  return -1;
}

int
owed_load (struct export *e)
{
  CLEANUP_FREE char *why = NULL;
  bool owed;

  e->owed_path = state_file_path (config.dir, "owed", e->name);
  if (e->owed_path == NULL) {
    nbdkit_error ("migrate: export \"%s\": %m", e->name);
    return -1;
  }
  owed = owed_file_read (e->owed_path, &why);
  owed_error_init (&e->owed, owed, keep, e);
  if (owed)
    nbdkit_error ("migrate: export \"%s\": acknowledged writes may have been "
                  "lost before this nbdkit started, and no guest was told: the "
                  "next flush fails (%s%s%s)",
                  e->name, e->owed_path, why ? ": " : "", why ? why : "");
  return 0;
}

void
owed_make_room (struct export *e)
{
  CLEANUP_FREE char *why = NULL;

  if (owed_file_make (e->owed_path, &why) == -1)
    nbdkit_error ("migrate: export \"%s\": making %s: %s", e->name,
                  e->owed_path, why ? why : strerror (errno));
}

void
owed_destroy (struct export *e)
{
  if (e->owed_path == NULL)
    return;
  owed_error_settle (&e->owed);
  owed_error_destroy (&e->owed);
  free (e->owed_path);
}
