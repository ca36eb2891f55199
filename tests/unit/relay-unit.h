/* SPDX-License-Identifier: BSD-3-Clause */
/* What the unit tests of the relay have in common. */

#ifndef NBDMIGRATE_RELAY_UNIT_H
#define NBDMIGRATE_RELAY_UNIT_H

#include <stdio.h>
#include <string.h>

#include "relay/owed-error.h"
#include "relay/relay.h"
#include "server.h"
#include "unit.h"

static struct owed_error owed; /* of the relay that was opened last */

static inline struct relay_options
default_options (uint64_t disk_bytes)
{
  struct relay_options o = RELAY_OPTIONS_DEFAULT;

  owed_error_init (&owed, false, NULL, NULL);
  o.owed = &owed;
  o.disk_bytes = disk_bytes;
  return o;
}

static inline struct relay_status
status_of (struct relay *r)
{
  struct relay_status st;

  relay_get_status (r, &st);
  return st;
}

static inline void
wait_until_connections (struct relay *r, unsigned n)
{
  unsigned tries = SERVER_TRIES;

  while (status_of (r).connections != n && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

/* In how many lines of a log that stands. */
static inline unsigned
logged (const char *path, const char *text)
{
  FILE *file = fopen (path, "r");
  char line[512];
  unsigned n = 0;

  if (file == NULL)
    return 0;
  while (fgets (line, sizeof line, file) != NULL)
    n += strstr (line, text) != NULL;
  fclose (file);
  return n;
}

static inline void
wait_until_logged (const char *path, const char *text, unsigned n)
{
  unsigned tries = SERVER_TRIES;

  while (logged (path, text) < n && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

#endif /* NBDMIGRATE_RELAY_UNIT_H */
