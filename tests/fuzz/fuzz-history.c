/* SPDX-License-Identifier: BSD-3-Clause */
/* The text files of an export: the history of its destinations, and whether an
 * error is owed.  What is believed is the same when it is written and read
 * again; of the other nothing is known, and an error is owed.
 */

#include "fuzz.h"
#include "state/history-file.h"
#include "state/owed-file.h"

static bool
have_same (const struct history_names *a, const struct history_names *b)
{
  if (a->n != b->n)
    return false;
  for (size_t i = 0; i < a->n; i++)
    if (a->v[i].length != b->v[i].length ||
        memcmp (a->v[i].bytes, b->v[i].bytes, a->v[i].length) != 0)
      return false;
  return true;
}

static void
try_history (void)
{
  struct history h, again;
  char *why = NULL;

  history_init (&h);
  history_init (&again);
  history_read (&h, "./file", &why);
  assert (why == NULL);
  if (h.complete) {
    assert (history_write (&h, "./again", false, &why) == 0);
    history_read (&again, "./again", &why);
    assert (again.complete && have_same (&h.earlier, &again.earlier));
  }
  history_destroy (&h);
  history_destroy (&again);
}

static void
try_owed (const uint8_t *data, size_t size)
{
  char *why = NULL;

  if (!owed_file_read ("./file", &why))
    assert (size >= 25 && memcmp (data, "nbdmigrate owed 1: none ", 24) == 0);
  free (why);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  fuzz_store ("file", data, size);
  try_history ();
  try_owed (data, size);
  return 0;
}
