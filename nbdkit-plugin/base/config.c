/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading the parameters.  A message names the value and what would be right.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include <nbdkit-filter.h>

#include "base/nbdkit-version.h"
#include "config.h"
#include "socket-life.h"
#include "units.h"

#define CHUNK_MIN (UINT64_C (4) << 10)
#define CHUNK_MAX (UINT64_C (64) << 20)

/* Unless the user sets the size: a small write makes a whole chunk travel
 * again, so the smallest is best as long as the map of the chunks, of which
 * each round of the copying goes through several, stays in a processor's caches
 * (512 KiB a bitmap); then this size, until the map is as large as it may be.
 */
#define CHUNKS_SMALL (UINT64_C (1) << 22)
#define CHUNK_USUAL (UINT64_C (64) << 10)
#define CHUNKS_MAX (UINT64_C (1) << 24)

_Static_assert(CHUNK_MIN <= CHUNK_USUAL && CHUNKS_SMALL <= CHUNKS_MAX,
               "it only grows with the disk");

#define MAX_GATE_LIMIT_MS (10 * 60 * 1000)
#define RECONNECT_LIMIT_MS (24 * 60 * 60 * 1000)

struct config config = {
  .max_gate_ms = 5000,
  .reconnect_ms = 30000,
  .network_timeout_ms = SOCKET_UNHEARD_MS,
  .state_sync = true,
};

const char config_help[] =
  "migrate-dir=<DIR>              (required) Directory of the control socket,\n"
  "                               made if it is not there.\n"
  "migrate-chunk=<SIZE>           Unit of tracking, a power of two from 4K to\n"
  "                               64M (default 4K, more on large disks).\n"
  "migrate-max-gate=<DURATION>    Longest time that a guest may be made to\n"
  "                               wait (default 5s).\n"
  "migrate-named-exports=<BOOL>   Serve exports other than the default one:\n"
  "                               only if the plugin has a disk of its own\n"
  "                               for each name (default false).\n"
  "migrate-require-tls=<BOOL>     Connect to no destination whose URI is "
  "without\n"
  "                               TLS (default false).\n"
  "migrate-mark=<FILE>           Have this file while the disk is not in the\n"
  "                               local image, to tell that it is old.\n"
  "migrate-state-sync=<BOOL>      Write the state so that it also survives a\n"
  "                               loss of power (default true).\n"
  "migrate-disconnect=<BOOL>      After a handover, end the connections that\n"
  "                               guests have, instead of failing their\n"
  "                               requests (default false).\n"
  "migrate-reconnect=<DURATION>   How long to try to reach a lost destination\n"
  "                               after a pivot (default 30s).\n"
  "migrate-request-timeout=<DURATION>\n"
  "                               After a pivot: a guest's request fails that\n"
  "                               is unanswered for so long (default: never).\n"
  "migrate-network-timeout=<DURATION>\n"
  "                               After a pivot: a destination is lost whose\n"
  "                               host is out of reach for so long (default\n"
  "                               30s).\n";

/* ---- one parameter ----------------------------------------------------- */

struct parameter {
  const char *name;
  int (*parse) (const struct parameter *p, const char *value);
  void *to;                /* what it sets, if 'parse' serves several */
  unsigned min_ms, max_ms; /* of a duration */
};

static int
parse_dir (const struct parameter *p, const char *value)
{
  size_t len;

  (void)p;
  if (*value == '\0') {
    nbdkit_error ("migrate-dir must not be empty: it names a directory for "
                  "the control socket");
    return -1;
  }
  /* The path is announced in a line of its own. */
  for (const char *c = value; *c; c++)
    if ((unsigned char)*c < ' ' || *c == 127) {
      nbdkit_error ("migrate-dir must not contain control characters");
      return -1;
    }

  config.dir = nbdkit_absolute_path (value);
  if (config.dir == NULL)
    return -1;
  for (len = strlen (config.dir); len > 1 && config.dir[len - 1] == '/';)
    config.dir[--len] = '\0';
  return 1;
}

/* Beside the image, or wherever else who starts guests looks. */
static int
parse_mark (const struct parameter *p, const char *value)
{
  const size_t len = strlen (value);

  (void)p;
  if (len == 0 || value[len - 1] == '/') {
    nbdkit_error ("migrate-mark=%s: it must be the path of a file, for example "
                  "/srv/vm1.raw.moved",
                  value);
    return -1;
  }
  config.mark = nbdkit_absolute_path (value);
  return config.mark != NULL ? 1 : -1;
}

static int
parse_chunk (const struct parameter *p, const char *value)
{
  uint64_t bytes;

  (void)p;
  if (units_parse_bytes (value, &bytes) == -1 || bytes < CHUNK_MIN ||
      bytes > CHUNK_MAX || (bytes & (bytes - 1)) != 0) {
    nbdkit_error ("migrate-chunk=%s: it must be a power of two from 4K to "
                  "64M, for example 64K",
                  value);
    return -1;
  }
  config.chunk_bytes = bytes;
  return 1;
}

static int
parse_duration (const struct parameter *p, const char *value)
{
  uint64_t ms;

  if (units_parse_ms (value, &ms) == -1 || ms < p->min_ms || ms > p->max_ms) {
    char least[UNITS_TEXT_MAX], most[UNITS_TEXT_MAX];

    nbdkit_error ("%s=%s: it must be a duration from %s to %s, for example "
                  "500ms, 5s or 2m",
                  p->name, value, units_spell_ms (least, p->min_ms),
                  units_spell_ms (most, p->max_ms));
    return -1;
  }
  *(unsigned *)p->to = ms;
  return 1;
}

/* What nbdkit_parse_bool takes, which says by itself what is wrong, but not of
 * which parameter.
 */
static int
parse_bool (const struct parameter *p, const char *value)
{
  static const char *const words[][2] = {
    { "false", "true" }, { "0", "1" }, { "f", "t" },
    { "no", "yes" },     { "n", "y" }, { "off", "on" },
  };
  size_t i, b;

  for (i = 0; i < sizeof words / sizeof words[0]; ++i)
    for (b = 0; b < 2; ++b)
      if (strcasecmp (value, words[i][b]) == 0) {
        *(bool *)p->to = b == 1;
        return 1;
      }
  nbdkit_error ("%s=%s: it must be true or false", p->name, value);
  return -1;
}

static int
parse_disconnect (const struct parameter *p, const char *value)
{
  if (parse_bool (p, value) == -1)
    return -1;
  if (config.disconnect && !NBDKIT_HAS_DISCONNECT) {
    nbdkit_error ("%s=%s: nbdkit %s cannot end the connection of one client; "
                  "1.34 and later can",
                  p->name, value, NBDKIT_VERSION_STRING);
    return -1;
  }
  return 1;
}

/* ---- all of them ------------------------------------------------------- */

static const struct parameter parameters[] = {
  { .name = "migrate-dir", .parse = parse_dir },
  { .name = "migrate-mark", .parse = parse_mark },
  { .name = "migrate-chunk", .parse = parse_chunk },
  { "migrate-max-gate", parse_duration, &config.max_gate_ms, 1,
    MAX_GATE_LIMIT_MS },
  { "migrate-reconnect", parse_duration, &config.reconnect_ms, 0,
    RECONNECT_LIMIT_MS },
  { "migrate-request-timeout", parse_duration, &config.request_timeout_ms, 1,
    RECONNECT_LIMIT_MS },
  { "migrate-network-timeout", parse_duration, &config.network_timeout_ms, 1000,
    RECONNECT_LIMIT_MS },
  { "migrate-named-exports", parse_bool, &config.named_exports, 0, 0 },
  { "migrate-require-tls", parse_bool, &config.require_tls, 0, 0 },
  { "migrate-state-sync", parse_bool, &config.state_sync, 0, 0 },
  { "migrate-disconnect", parse_disconnect, &config.disconnect, 0, 0 },
};

#define PARAMETERS (sizeof parameters / sizeof parameters[0])

static bool given[PARAMETERS];

/* Of two values the last would win in silence, and with a slip in a service's
 * options that is another disk's directory.
 */
int
config_parameter (const char *key, const char *value)
{
  size_t i;

  for (i = 0; i < PARAMETERS; ++i)
    if (strcmp (key, parameters[i].name) == 0)
      break;
  if (i == PARAMETERS)
    return 0;
  if (given[i]) {
    nbdkit_error ("%s=%s: %s is given twice: which of them is meant?", key,
                  value, key);
    return -1;
  }
  given[i] = true;
  return parameters[i].parse (&parameters[i], value);
}

/* What is in the directory decides who owns the disk, and the mark has a name
 * that somebody has chosen.
 */
static bool
mark_is_in_dir (void)
{
  const size_t len = strlen (config.dir);

  return config.mark != NULL && strncmp (config.mark, config.dir, len) == 0 &&
         config.mark[len] == '/' && strchr (config.mark + len + 1, '/') == NULL;
}

int
config_complete (void)
{
  const size_t max = sizeof ((struct sockaddr_un *)NULL)->sun_path - 1;

  if (config.dir == NULL) {
    nbdkit_error ("migrate-dir=DIR is required: a directory for the control "
                  "socket, for example migrate-dir=/var/lib/vm1");
    return -1;
  }
  if (mark_is_in_dir ()) {
    nbdkit_error ("migrate-mark=%s: it must not be in migrate-dir, whose files "
                  "decide who owns the disk: put it beside the image",
                  config.mark);
    return -1;
  }
  free (config.control);
  if (asprintf (&config.control, "%s/control",
                strcmp (config.dir, "/") == 0 ? "" : config.dir) == -1) {
    config.control = NULL;
    nbdkit_error ("asprintf: %m");
    return -1;
  }
  if (strlen (config.control) > max) {
    nbdkit_error ("migrate-dir: the path of the control socket, %s, has %zu "
                  "bytes, the system allows %zu: choose a shorter directory",
                  config.control, strlen (config.control), max);
    return -1;
  }
  return 0;
}

void
config_free (void)
{
  free (config.dir);
  free (config.control);
  free (config.mark);
  config.dir = config.control = config.mark = NULL;
}

static bool
needs_more (uint64_t disk_bytes, uint64_t chunk, uint64_t chunks)
{
  return disk_bytes > 0 && (disk_bytes - 1) / chunk >= chunks;
}

uint64_t
config_chunk_bytes (uint64_t disk_bytes)
{
  uint64_t chunk = CHUNK_MIN;

  if (config.chunk_bytes != 0)
    return config.chunk_bytes;
  while (chunk < CHUNK_USUAL && needs_more (disk_bytes, chunk, CHUNKS_SMALL))
    chunk *= 2;
  while (needs_more (disk_bytes, chunk, CHUNKS_MAX))
    chunk *= 2;
  return chunk;
}
