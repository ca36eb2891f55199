/* SPDX-License-Identifier: BSD-3-Clause */
/* Version 0. */

#include "initial.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#include "content.h"
#include "uri.h"
#include "util.h"

void
initial_parse (struct initial *i, const char *text)
{
  char end;

  if (strcmp (text, "zero") == 0)
    i->kind = INITIAL_ZERO;
  else if (strcmp (text, "any") == 0)
    i->kind = INITIAL_ANY;
  else if (sscanf (text, "pattern:%" SCNu64 ":%" SCNu64 "%c", &i->seed,
                   &i->density, &end) == 2)
    i->kind = INITIAL_PATTERN;
  else
    die (EXIT_USAGE,
         "--initial: \"%s\" is none of zero, any, pattern:SEED:DENSITY", text);
}

const char *
initial_text (const struct initial *i, char text[64])
{
  if (i->kind == INITIAL_PATTERN)
    snprintf (text, 64, "pattern:%" PRIu64 ":%" PRIu64, i->seed, i->density);
  else
    snprintf (text, 64, "%s", i->kind == INITIAL_ZERO ? "zero" : "any");
  return text;
}

void
initial_add_base (struct initial *i, const char *where)
{
  const uint32_t n = i->bases++;

  if (n == LAYOUT_DISKS_MAX)
    die (EXIT_USAGE, "more than %d bases", LAYOUT_DISKS_MAX);
  i->kind = INITIAL_BASE;
  i->nbd[n] = NULL;
  i->fd[n] = -1;
  if (uri_is_nbd (where)) {
    i->nbd[n] = nbd_create ();
    if (i->nbd[n] == NULL || nbd_connect_uri (i->nbd[n], where) == -1)
      die (EXIT_BROKEN, "base %s: %s", where, nbd_get_error ());
    return;
  }
  i->fd[n] = open (where, O_RDONLY | O_CLOEXEC);
  if (i->fd[n] == -1)
    die (EXIT_BROKEN, "base %s: %s", where, strerror (errno));
}

void
initial_close (struct initial *i)
{
  for (uint32_t n = 0; n < i->bases; n++) {
    nbd_close (i->nbd[n]);
    if (i->fd[n] >= 0)
      close (i->fd[n]);
  }
  i->bases = 0;
}

bool
pattern_has (uint64_t seed, uint64_t density, uint64_t block)
{
  return content_mix (content_mix (seed) + block) % 100 < density;
}

static void
fill_pattern (const struct initial *i, uint64_t offset, uint8_t *buf,
              size_t length)
{
  while (length > 0) {
    const uint64_t block = offset / PATTERN_BLOCK;
    const size_t rest = PATTERN_BLOCK - offset % PATTERN_BLOCK;
    const size_t n = length < rest ? length : rest;

    if (pattern_has (i->seed, i->density, block))
      content_fill (i->seed, 0, offset, buf, n);
    else
      memset (buf, 0, n);
    buf += n;
    offset += n;
    length -= n;
  }
}

/* A file may end inside its last sector; what follows reads as zeroes. */
static void
fill_base (const struct initial *i, uint32_t disk, uint64_t offset,
           uint8_t *buf, size_t length)
{
  ssize_t n;

  if (disk >= i->bases)
    die (EXIT_USAGE, "no --base for disk %" PRIu32, disk);
  if (i->nbd[disk] != NULL) {
    if (nbd_pread (i->nbd[disk], buf, length, offset, 0) == -1)
      die (EXIT_BROKEN, "base of disk %" PRIu32 ": %s", disk, nbd_get_error ());
    return;
  }
  while (length > 0) {
    n = pread (i->fd[disk], buf, length, offset);
    if (n == -1)
      die (EXIT_BROKEN, "base of disk %" PRIu32 ": %s", disk, strerror (errno));
    if (n == 0)
      memset (buf, 0, n = length);
    buf += n;
    offset += n;
    length -= n;
  }
}

bool
initial_fill (const struct initial *i, uint32_t disk, uint64_t offset,
              uint8_t *buf, size_t length)
{
  switch (i->kind) {
  case INITIAL_ZERO:
    memset (buf, 0, length);
    return true;
  case INITIAL_PATTERN:
    fill_pattern (i, offset, buf, length);
    return true;
  case INITIAL_BASE:
    fill_base (i, disk, offset, buf, length);
    return true;
  case INITIAL_ANY:
    break;
  }
  return false;
}
