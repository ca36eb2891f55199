/* SPDX-License-Identifier: BSD-3-Clause */

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

const char *
nbd_error_text (const char *error)
{
  static const char state[] = "handshake: ";

  if (error == NULL)
    return NULL;
  error = skip_function (error);
  if (strncmp (error, state, strlen (state)) == 0)
    error += strlen (state);
  return error;
}
