/* SPDX-License-Identifier: BSD-3-Clause */
/* Usage: TARGET FILE...: give each file to the target once.  For the corpus
 * where there is no libFuzzer, and for what it has found.
 */

#include "fuzz.h"

#define BYTES_MAX (1 << 20)

static uint8_t bytes[BYTES_MAX];

int
main (int argc, char **argv)
{
  for (int i = 1; i < argc; i++) {
    FILE *file = fopen (argv[i], "r");
    uint8_t *copy;
    size_t n;

    if (file == NULL) {
      perror (argv[i]);
      return EXIT_FAILURE;
    }
    n = fread (bytes, 1, sizeof bytes, file);
    fclose (file);
    copy = malloc (n + !n); /* so that the sanitizer sees its end */
    assert (copy != NULL);
    memcpy (copy, bytes, n);
    LLVMFuzzerTestOneInput (copy, n);
    free (copy);
  }
  printf ("%d inputs\n", argc - 1);
  return EXIT_SUCCESS;
}
