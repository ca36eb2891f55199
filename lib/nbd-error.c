/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "nbd-error.h"

/* Behind "nbd_some_function: ". */
static const char *
skip_function (const char *text)
{
  const size_t n = strspn (text, "abcdefghijklmnopqrstuvwxyz0123456789_");

  if (strncmp (text, "nbd_", 4) != 0 || strncmp (text + n, ": ", 2) != 0)
    return text;
  return text + n + 2;
}

/* What nbd_poll makes of a server that is gone before it has said a word
 * (libnbd 1.14): "external event 0 is invalid in state CONNECT.START: Invalid
 * argument".
 */
static bool
is_hung_up (const char *error)
{
  return strncmp (error, "external event ", 15) == 0 &&
         strstr (error, "is invalid in state CONNECT.") != NULL;
}

const char *
nbd_error_text (const char *error)
{
  static const char state[] = "handshake: ";

  if (error == NULL)
    return NULL;
  error = skip_function (error);
  if (strncmp (error, state, strlen (state)) == 0)
    error += strlen (state);
  return is_hung_up (error) ? "the server closed the connection" : error;
}
