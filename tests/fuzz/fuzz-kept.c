/* SPDX-License-Identifier: BSD-3-Clause */
/* The file of kept writes.  The first byte says whether its lengths and digests
 * are made right, as those of a damaged file are not; then the header up to the
 * URI's end, FRONT bytes of it, and what follows the header.
 *
 * What is believed lies within the disk and within the file, and is the same
 * when it is written and read again.
 */

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "bytes.h"
#include "fuzz.h"
#include "state/kept-file.h"

#define HEADER 4096
#define DIGEST 32
#define FRONT 128
#define CONTENT_MAX 65536

static uint8_t image[HEADER + CONTENT_MAX];

static void
digest (const void *data, size_t size, uint8_t *where)
{
  gnutls_hash_fast (GNUTLS_DIG_SHA256, data, size, where);
}

static void
make_right (size_t content, uint8_t what)
{
  if (what & 1)
    memcpy (image, "nbdmigrate kept ", 16);
  if (what & 2)
    put32 (image + 16, 1);
  if (what & 4)
    digest ("disk", 4, image + 56);
  if (what & 8)
    put64 (image + 48, content);
  if (what & 16)
    digest (image + HEADER, content, image + HEADER - 2 * DIGEST);
  if (what & 32)
    digest (image, HEADER - DIGEST, image + HEADER - DIGEST);
}

static void
check (const struct kept_file *f, size_t content)
{
  const uint8_t *const end = f->content + content;

  for (size_t i = 0; i < f->kept.nr_entries; i++) {
    const struct kept_entry *e = &f->kept.entries[i];

    assert (e->length <= f->kept.disk_bytes &&
            e->offset <= f->kept.disk_bytes - e->length);
    if (e->kind == KEPT_WRITE || e->kind == KEPT_WITNESS)
      assert (e->data >= f->content && e->data <= end &&
              e->length <= (size_t)(end - e->data));
    else
      assert (e->data == NULL);
  }
}

static void
write_again (const struct kept_file *f)
{
  struct kept_file again;
  char *why = NULL;

  assert (kept_file_write ("./again", &f->kept, &why) == 0);
  assert (kept_file_read ("./again", "disk", &again, &why) == KEPT_OK);
  assert (again.kept.nr_entries == f->kept.nr_entries &&
          again.bytes == f->bytes && strcmp (again.kept.uri, f->kept.uri) == 0);
  kept_file_free (&again);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct kept_file f;
  char *why = NULL;
  size_t content;
  enum kept_status status;

  if (size < 1 + FRONT)
    return 0;
  content = size - 1 - FRONT;
  if (content > CONTENT_MAX)
    content = CONTENT_MAX;
  memset (image, 0, HEADER);
  memcpy (image, data + 1, FRONT);
  memcpy (image + HEADER, data + 1 + FRONT, content);
  make_right (content, data[0]);
  fuzz_store ("kept", image, HEADER + content);
  status = kept_file_read ("./kept", "disk", &f, &why);
  assert ((why != NULL) == (status == KEPT_BAD));
  free (why);
  if (status == KEPT_OK) {
    check (&f, content);
    write_again (&f);
    kept_file_free (&f);
  }
  return 0;
}
