/* SPDX-License-Identifier: BSD-3-Clause */

#include <inttypes.h>

#include "uri.h"

#include "base/asker.h"
#include "base/notice.h"
#include "export/audit.h"
#include "export/export.h"

/* Words for a place of a session; the local image has no URI of a server. */
static const char *
words_of (const char *place, const char *none)
{
  if (!place)
    return none;
  return uri_is_local (place) ? "the local image" : place;
}

static const char *
source_of (const struct export *e)
{
  return words_of (e->session.source, "the local image");
}

static const char *
destination_of (const struct export *e)
{
  return words_of (e->session.destination, "nowhere");
}

static const char *
place_of (const struct export *e, enum owner owner)
{
  switch (owner) {
  case OWNER_SOURCE:
    return source_of (e);
  case OWNER_DESTINATION:
  case OWNER_FENCED:
    return destination_of (e);
  case OWNER_UNKNOWN:
    break;
  }
  return "it may be either";
}

#define ASKER asker_text ((char[ASKER_TEXT_MAX]){ 0 })

void
audit_begin (const struct export *e)
{
  notice ("migrate: export \"%s\": a migration from %s to %s begins%s", e->name,
          source_of (e), destination_of (e), ASKER);
}

void
audit_end (const struct export *e, enum owner owner)
{
  notice ("migrate: export \"%s\": the migration to %s has ended (%s); its "
          "owner is: %s (%s)%s",
          e->name, destination_of (e), record_end_name (e->session.last_end),
          owner_name (owner), place_of (e, owner), ASKER);
}

void
audit_cancel (const struct export *e)
{
  notice ("migrate: export \"%s\": the migration to %s is cancelled, and none "
          "goes on with it; its owner is: source (%s)%s",
          e->name, destination_of (e), source_of (e), ASKER);
}

void
audit_untouched (const struct export *e)
{
  notice ("migrate: export \"%s\": the migration has ended, and nothing was "
          "done%s",
          e->name, ASKER);
}

void
audit_commit (const struct export *e, enum owner owner, enum record_end end)
{
  notice ("migrate: export \"%s\": %s from %s to %s: its owner is: %s%s",
          e->name, record_end_name (end), source_of (e), destination_of (e),
          owner_name (owner), ASKER);
}

void
audit_rollback (const struct export *e)
{
  notice ("migrate: export \"%s\": taken back from %s: its owner is: %s (%s)%s",
          e->name, destination_of (e), owner_name (OWNER_SOURCE), source_of (e),
          ASKER);
}

void
audit_reopen (const struct export *e, enum owner owner)
{
  notice ("migrate: export \"%s\": reopened: its owner is: %s (%s)%s", e->name,
          owner_name (owner), place_of (e, owner), ASKER);
}

void
audit_map_loaded (const struct export *e, uint64_t marked_bytes)
{
  notice ("migrate: export \"%s\": the migration to %s can go on: %" PRIu64
          " bytes may be different there",
          e->name, destination_of (e), marked_bytes);
}

void
audit_map_void (const struct export *e, const char *path)
{
  notice ("migrate: export \"%s\": the dirty map %s counts no more", e->name,
          path);
}
