/* SPDX-License-Identifier: BSD-3-Clause */
/* The file of kept writes: what is written is read, and what is damaged, cut or
 * of another export is not believed in any part.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "bytes.h"
#include "state/kept-file.h"
#include "unit.h"

#define DISK_BYTES 1000000
#define FILE_MAX 65536

static uint8_t data[5000];

static const struct kept_entry entries[] = {
  { KEPT_WRITE, 0, 512, sizeof data, data },
  { KEPT_ZERO, KEPT_NO_HOLE, 0, DISK_BYTES, NULL },
  { KEPT_WRITE, 0, DISK_BYTES - 1, 1, data },
  { KEPT_TRIM, 0, 4096, 8192, NULL },
  { KEPT_WITNESS, 0, 20480, 512, data },
};

static const struct kept sample = {
  .export_name = "disk",
  .uri = "nbd://host/disk",
  .disk_bytes = DISK_BYTES,
  .generation = 7,
  .grace_ms = 2000,
  .entries = entries,
  .nr_entries = sizeof entries / sizeof entries[0],
};

static enum kept_status
read_it (const char *name, struct kept_file *f)
{
  char *why = NULL;
  const enum kept_status s = kept_file_read ("./kept", name, f, &why);

  CU_ASSERT_EQUAL (why != NULL, s == KEPT_BAD);
  free (why);
  return s;
}

static void
write_it (void)
{
  char *why;

  CU_ASSERT_EQUAL (kept_file_write ("./kept", &sample, &why), 0);
}

static void
test_same (void)
{
  struct kept_file f;
  struct stat st;

  CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_NONE);
  write_it ();
  CU_ASSERT_EQUAL (stat ("kept", &st), 0);
  CU_ASSERT_EQUAL (st.st_mode & 0777, 0600);
  CU_ASSERT_EQUAL_FATAL (read_it ("disk", &f), KEPT_OK);
  CU_ASSERT_STRING_EQUAL (f.kept.uri, sample.uri);
  CU_ASSERT_EQUAL (f.kept.disk_bytes, DISK_BYTES);
  CU_ASSERT_EQUAL (f.kept.generation, 7);
  CU_ASSERT_EQUAL (f.kept.grace_ms, 2000);
  CU_ASSERT_EQUAL (f.bytes, sizeof data + DISK_BYTES + 1 + 8192);
  CU_ASSERT_EQUAL_FATAL (f.kept.nr_entries, sample.nr_entries);
  for (size_t i = 0; i < f.kept.nr_entries; i++) {
    const struct kept_entry *a = &entries[i], *b = &f.kept.entries[i];

    CU_ASSERT (a->kind == b->kind && a->flags == b->flags &&
               a->offset == b->offset && a->length == b->length);
    CU_ASSERT (a->data == NULL || memcmp (a->data, b->data, a->length) == 0);
  }
  kept_file_free (&f);
  CU_ASSERT_EQUAL (read_it ("another", &f), KEPT_BAD);
  CU_ASSERT_EQUAL (kept_file_remove ("./kept"), 0);
  CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_NONE);
  CU_ASSERT_EQUAL (kept_file_remove ("./kept"), 0);
}

static size_t
load (uint8_t *image)
{
  FILE *file = fopen ("kept", "r");
  const size_t n = fread (image, 1, FILE_MAX, file);

  fclose (file);
  return n;
}

static void
store (const uint8_t *image, size_t n)
{
  FILE *file = fopen ("kept", "w");

  fwrite (image, 1, n, file);
  fclose (file);
}

/* Cut at any length, longer, with any bit changed. */
static void
test_damaged (void)
{
  uint64_t state = unit_seed ();
  uint8_t image[FILE_MAX + 1];
  struct kept_file f;
  size_t n;

  write_it ();
  n = load (image);
  CU_ASSERT_FATAL (n < FILE_MAX);
  for (unsigned i = 0; i < 300; i++) {
    store (image, i == 0 ? n - 1 : unit_random (&state, n));
    CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_BAD);
  }
  image[n] = 0;
  store (image, n + 1);
  CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_BAD);
  for (unsigned i = 0; i < 1000; i++) {
    const size_t at = unit_random (&state, n);
    const uint8_t bit = 1u << unit_random (&state, 8);

    image[at] ^= bit;
    store (image, n);
    CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_BAD);
    image[at] ^= bit;
  }
  store (image, n);
  CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_OK);
  kept_file_free (&f);
  CU_ASSERT_EQUAL (kept_file_remove ("./kept"), 0);
}

/* ---- What nobody writes, with digests that are right --------------------- */

#define HEADER 4096
#define DIGEST 32

static void
seal (uint8_t *image, size_t n)
{
  assert (gnutls_hash_fast (GNUTLS_DIG_SHA256, image + HEADER, n - HEADER,
                            image + HEADER - 2 * DIGEST) == 0 &&
          gnutls_hash_fast (GNUTLS_DIG_SHA256, image, HEADER - DIGEST,
                            image + HEADER - DIGEST) == 0);
}

/* 32 bits at this offset of the file, or 64, are another number. */
static void
expect_bad (const uint8_t *good, size_t n, size_t at, bool wide, uint64_t value)
{
  uint8_t image[FILE_MAX];
  struct kept_file f;

  memcpy (image, good, n);
  if (wide)
    put64 (image + at, value);
  else
    put32 (image + at, value);
  seal (image, n);
  store (image, n);
  CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_BAD);
}

static void
test_strange (void)
{
  uint8_t image[FILE_MAX];
  struct kept_file f;
  size_t n;

  write_it ();
  n = load (image);
  seal (image, n);
  store (image, n);
  CU_ASSERT_EQUAL (read_it ("disk", &f), KEPT_OK);
  kept_file_free (&f);

  expect_bad (image, n, 0, false, 0);          /* the magic */
  expect_bad (image, n, 16, false, 2);         /* the version */
  expect_bad (image, n, 88, false, HEADER);    /* a URI so long */
  expect_bad (image, n, 40, true, UINT64_MAX); /* so many entries */
  expect_bad (image, n, 40, true, sample.nr_entries + 1);
  expect_bad (image, n, 40, true, sample.nr_entries - 1);
  expect_bad (image, n, 48, true, UINT64_MAX); /* so many bytes */
  expect_bad (image, n, HEADER, false, 0);     /* no kind */
  expect_bad (image, n, HEADER, false, KEPT_WITNESS + 1);
  expect_bad (image, n, HEADER + 8, true, DISK_BYTES + 1); /* its offset */
  expect_bad (image, n, HEADER + 16, true, DISK_BYTES);    /* its length */
  expect_bad (image, n, HEADER + 16, true, n); /* more than there is */
  CU_ASSERT_EQUAL (kept_file_remove ("./kept"), 0);
}

static void
test_nothing (void)
{
  struct kept none = sample;
  struct kept_file f;
  char *why;

  none.nr_entries = 0;
  CU_ASSERT_EQUAL (kept_file_write ("./kept", &none, &why), 0);
  CU_ASSERT_EQUAL_FATAL (read_it ("disk", &f), KEPT_OK);
  CU_ASSERT_EQUAL (f.kept.nr_entries, 0);
  CU_ASSERT_EQUAL (f.bytes, 0);
  kept_file_free (&f);
  CU_ASSERT_EQUAL (kept_file_remove ("./kept"), 0);
  CU_ASSERT_EQUAL (kept_file_write ("./nowhere/kept", &none, &why), -1);
  free (why);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the same", test_same },   { "damaged", test_damaged },
    { "strange", test_strange }, { "nothing", test_nothing },
    CU_TEST_INFO_NULL,
  };
  char dir[] = "/tmp/test-kept-file-XXXXXX";
  int result;

  umask (022);
  assert (mkdtemp (dir) != NULL && chdir (dir) == 0);
  for (size_t i = 0; i < sizeof data; i++)
    data[i] = i * 7;
  result = unit_main ("kept-file", tests);
  rmdir (dir);
  return result;
}
