/* SPDX-License-Identifier: BSD-3-Clause */
/* What the fuzz targets share.  A target is one file with one function, which
 * gets bytes from libFuzzer, or from replay.c, and must bear any: it stops by
 * assert where a promise of what it tries is broken.
 */

#ifndef NBDMIGRATE_FUZZ_H
#define NBDMIGRATE_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#undef NDEBUG
#include <assert.h>

extern int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* As a text; the caller frees it. */
static inline char *
fuzz_text (const uint8_t *data, size_t size)
{
  char *text = malloc (size + 1);

  assert (text != NULL);
  memcpy (text, data, size);
  text[size] = '\0';
  return text;
}

/* A file in the current directory, which run.sh has made for this target. */
static inline void
fuzz_store (const char *name, const void *data, size_t size)
{
  FILE *file = fopen (name, "w");

  assert (file != NULL);
  assert (fwrite (data, 1, size, file) == size);
  assert (fclose (file) == 0);
}

#endif /* NBDMIGRATE_FUZZ_H */
