/* SPDX-License-Identifier: BSD-3-Clause */
/* What people write: URIs, sizes and durations; and what a proxy says of itself
 * in a description.
 */

#include <errno.h>
#include <stdbool.h>

#include "announcement.h"
#include "fuzz.h"
#include "units.h"
#include "uri.h"

static void
count_parameter (void *opaque, const char *name, const char *value)
{
  size_t *n = opaque;

  *n += 1 + strlen (name) + strlen (value);
}

/* What is absolute stays as it is. */
static void
try_uri (const char *text)
{
  char *absolute = uri_absolute (text), *again, *name, *local;
  char *host, *port;
  size_t n = 0;

  assert (absolute != NULL && uri_is_nbd (absolute) == uri_is_nbd (text));
  again = uri_absolute (absolute);
  assert (again != NULL && strcmp (again, absolute) == 0);
  name = uri_export_name (text);
  assert (name != NULL && strlen (name) <= strlen (text));
  assert (uri_foreach_parameter (text, count_parameter, &n) == 0);
  assert (n <= 2 * strlen (text) + 1);
  if (uri_tcp_address (text, &host, &port)) {
    assert (*host != '\0' && *port != '\0' && uri_is_nbd (text));
    free (host);
    free (port);
  }
  local = uri_of_local (text);
  assert (local == NULL || *name == '\0');
  free (local);
  free (name);
  free (again);
  free (absolute);
}

static void
try_units (const char *text)
{
  char shown[UNITS_TEXT_MAX];
  uint64_t n;

  if (units_parse_bytes (text, &n) == 0) {
    assert (n <= INT64_MAX);
    assert (strlen (units_format_bytes (shown, n)) < UNITS_TEXT_MAX);
  }
  else
    assert (errno == EINVAL || errno == ERANGE);
  if (units_parse_ms (text, &n) == 0) {
    assert (n <= INT64_MAX);
    assert (strlen (units_format_ms (shown, n)) < UNITS_TEXT_MAX);
  }
  else
    assert (errno == EINVAL || errno == ERANGE);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  char *text = fuzz_text (data, size), *found;

  try_uri (text);
  try_units (text);
  found = announcement_find (text, ANNOUNCE_CONTROL);
  assert (found == NULL || strchr (found, '\n') == NULL);
  free (found);
  free (text);
  return 0;
}
