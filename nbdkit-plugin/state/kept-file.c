/* SPDX-License-Identifier: BSD-3-Clause */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "bytes.h"
#include "cleanup.h"
#include "kept-file.h"
#include "record.h"
#include "state-file.h"

#define FORMAT_VERSION 1
#define HEADER_BYTES 4096
#define ENTRY_BYTES 24 /* before its data */
#define DIGEST_BYTES 32
#define CONTENT_MAX (UINT64_C (4) << 30) /* of a file that is believed */

enum {
  AT_MAGIC = 0,
  AT_VERSION = 16,
  AT_GRACE = 20,
  AT_DISK_BYTES = 24,
  AT_GENERATION = 32,
  AT_ENTRIES = 40,
  AT_CONTENT_BYTES = 48,
  AT_NAME_DIGEST = 56,
  AT_URI_LENGTH = 88,
  AT_URI = 96,
  AT_CONTENT_DIGEST = HEADER_BYTES - 2 * DIGEST_BYTES,
  AT_DIGEST = HEADER_BYTES - DIGEST_BYTES,
};

_Static_assert(AT_URI + RECORD_URI_MAX <= AT_CONTENT_DIGEST,
               "a URI of the record fits");

static const char magic[] = "nbdmigrate kept "; /* without the final 0 */

static bool
has_digest (const void *data, size_t bytes, const uint8_t *digest)
{
  uint8_t real[DIGEST_BYTES];

  return gnutls_hash_fast (GNUTLS_DIG_SHA256, data, bytes, real) == 0 &&
         memcmp (real, digest, sizeof real) == 0;
}

/* ---- Reading ----------------------------------------------------------- */

static enum kept_status __attribute__ ((format (printf, 2, 3)))
bad (char **why, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  if (vasprintf (why, fmt, args) == -1)
    *why = NULL;
  va_end (args);
  return KEPT_BAD;
}

static enum kept_status
check_header (const uint8_t *header, const char *export_name, char **why)
{
  const uint8_t *name_digest = header + AT_NAME_DIGEST;

  if (memcmp (header, magic, sizeof magic - 1) != 0)
    return bad (why, "it is no file of kept writes");
  if (!has_digest (header, AT_DIGEST, header + AT_DIGEST))
    return bad (why, "its header is damaged, so nobody knows how many bytes "
                     "were kept in it");
  if (get32 (header + AT_VERSION) != FORMAT_VERSION)
    return bad (why,
                "it was written by another version of the software "
                "(format %" PRIu32 "), which can use it",
                get32 (header + AT_VERSION));
  if (!has_digest (export_name, strlen (export_name), name_digest))
    return bad (why, "it belongs to another export");
  if (get32 (header + AT_URI_LENGTH) > RECORD_URI_MAX)
    return bad (why, "its URI is too long");
  return KEPT_OK;
}

static bool
has_data (enum kept_kind kind)
{
  return kind == KEPT_WRITE || kind == KEPT_WITNESS;
}

/* One entry; where the next one begins, NULL: it is none. */
static const uint8_t *
decode_entry (const uint8_t *at, const uint8_t *end, uint64_t disk_bytes,
              struct kept_entry *e)
{
  uint32_t kind;

  if (end - at < ENTRY_BYTES)
    return NULL;
  kind = get32 (at);
  *e = (struct kept_entry){
    .kind = kind,
    .flags = get32 (at + 4),
    .offset = get64 (at + 8),
    .length = get64 (at + 16),
  };
  at += ENTRY_BYTES;
  if (kind < KEPT_WRITE || kind > KEPT_WITNESS || e->offset > disk_bytes ||
      e->length > disk_bytes - e->offset)
    return NULL;
  if (!has_data (kind))
    return at;
#ifndef PLANT_BUG_kept_length
  if (e->length > (uint64_t)(end - at))
    return NULL;
#endif
  e->data = at;
  return at + e->length;
}

static bool
decode_entries (struct kept_file *f, size_t bytes)
{
  const uint8_t *at = f->content, *const end = at + bytes;

  for (size_t i = 0; i < f->kept.nr_entries && at != NULL; i++) {
    struct kept_entry *e = &f->entries[i];

    at = decode_entry (at, end, f->kept.disk_bytes, e);
    if (at != NULL && e->kind != KEPT_WITNESS)
      f->bytes += e->length;
  }
  return at == end;
}

/* Behind a header that is right. */
static enum kept_status
read_content (int fd, const uint8_t *header, struct kept_file *f, char **why)
{
  const uint64_t bytes = get64 (header + AT_CONTENT_BYTES);
  const uint64_t nr = get64 (header + AT_ENTRIES);
  struct stat st;

  if (fstat (fd, &st) == -1)
    return bad (why, "looking at it: %s", strerror (errno));
  if (bytes > CONTENT_MAX || nr > bytes / ENTRY_BYTES ||
      (uint64_t)st.st_size != HEADER_BYTES + bytes)
    return bad (why,
                "it is not whole: %" PRIu64 " bytes were written, it has "
                "%" PRIu64,
                HEADER_BYTES + bytes, (uint64_t)st.st_size);
  f->content = malloc (bytes + 1);
  f->entries = calloc (nr + 1, sizeof *f->entries);
  f->uri =
    strndup ((const char *)header + AT_URI, get32 (header + AT_URI_LENGTH));
  if (f->content == NULL || f->entries == NULL || f->uri == NULL)
    return bad (why, "reading it: %s", strerror (ENOMEM));
  if (state_file_read (fd, f->content, bytes, HEADER_BYTES) == -1)
    return bad (why, "reading it: %s", strerror (errno));
  f->kept = (struct kept){
    .uri = f->uri,
    .disk_bytes = get64 (header + AT_DISK_BYTES),
    .generation = get64 (header + AT_GENERATION),
    .grace_ms = get32 (header + AT_GRACE),
    .entries = f->entries,
    .nr_entries = nr,
  };
  if (!has_digest (f->content, bytes, header + AT_CONTENT_DIGEST) ||
      !decode_entries (f, bytes))
    return bad (why,
                "the %" PRIu64 " writes in it (%" PRIu64 " bytes with what "
                "describes them) are damaged",
                nr, bytes);
  return KEPT_OK;
}

enum kept_status
kept_file_read (const char *path, const char *export_name, struct kept_file *f,
                char **why)
{
  CLEANUP_CLOSE int fd = state_file_open (path, O_RDONLY, why);
  uint8_t header[HEADER_BYTES];
  enum kept_status status;

  *f = (struct kept_file){ .bytes = 0 };
  if (fd == -1)
    return errno == ENOENT ? KEPT_NONE : KEPT_BAD;
  if (state_file_read (fd, header, sizeof header, 0) == -1)
    return bad (why, "its header is not whole, so nobody knows how many bytes "
                     "were kept in it");
  status = check_header (header, export_name, why);
  if (status == KEPT_OK)
    status = read_content (fd, header, f, why);
  if (status == KEPT_OK)
    f->kept.export_name = export_name;
  else
    kept_file_free (f);
  return status;
}

void
kept_file_free (struct kept_file *f)
{
  free (f->content);
  free (f->entries);
  free (f->uri);
  *f = (struct kept_file){ .bytes = 0 };
}

/* ---- Writing ----------------------------------------------------------- */

struct writer {
  int fd;
  off_t at;
  gnutls_hash_hd_t hash;
};

static int
append (struct writer *w, const uint8_t *from, size_t bytes)
{
  if (state_file_write (w->fd, from, bytes, w->at) == -1)
    return -1;
  if (gnutls_hash (w->hash, from, bytes) < 0) {
    errno = EIO;
    return -1;
  }
  w->at += bytes;
  return 0;
}

static int
append_entry (struct writer *w, const struct kept_entry *e)
{
  uint8_t head[ENTRY_BYTES];

  put32 (head, e->kind);
  put32 (head + 4, e->flags);
  put64 (head + 8, e->offset);
  put64 (head + 16, e->length);
  if (append (w, head, sizeof head) == -1)
    return -1;
  return has_data (e->kind) ? append (w, e->data, e->length) : 0;
}

static int
write_entries (struct writer *w, const struct kept *k,
               uint8_t digest[DIGEST_BYTES])
{
  int r = 0;

  if (gnutls_hash_init (&w->hash, GNUTLS_DIG_SHA256) < 0) {
    errno = EIO;
    return -1;
  }
  for (size_t i = 0; i < k->nr_entries && r == 0; i++)
    r = append_entry (w, &k->entries[i]);
  gnutls_hash_deinit (w->hash, digest);
  return r;
}

static int
write_header (const struct writer *w, const struct kept *k,
              const uint8_t content_digest[DIGEST_BYTES])
{
  const size_t uri_length = strnlen (k->uri, RECORD_URI_MAX);
  uint8_t header[HEADER_BYTES] = { 0 };

  memcpy (header, magic, sizeof magic - 1);
  put32 (header + AT_VERSION, FORMAT_VERSION);
  put32 (header + AT_GRACE, k->grace_ms);
  put64 (header + AT_DISK_BYTES, k->disk_bytes);
  put64 (header + AT_GENERATION, k->generation);
  put64 (header + AT_ENTRIES, k->nr_entries);
  put64 (header + AT_CONTENT_BYTES, w->at - HEADER_BYTES);
  put32 (header + AT_URI_LENGTH, uri_length);
  memcpy (header + AT_URI, k->uri, uri_length);
  memcpy (header + AT_CONTENT_DIGEST, content_digest, DIGEST_BYTES);
  if (gnutls_hash_fast (GNUTLS_DIG_SHA256, k->export_name,
                        strlen (k->export_name), header + AT_NAME_DIGEST) < 0 ||
      gnutls_hash_fast (GNUTLS_DIG_SHA256, header, AT_DIGEST,
                        header + AT_DIGEST) < 0) {
    errno = EIO;
    return -1;
  }
  return state_file_write (w->fd, header, sizeof header, 0);
}

static int
fill (int fd, const struct kept *k)
{
  struct writer w = { .fd = fd, .at = HEADER_BYTES };
  uint8_t digest[DIGEST_BYTES];

  if (write_entries (&w, k, digest) == -1 || write_header (&w, k, digest) == -1)
    return -1;
  return fsync (fd);
}

int
kept_file_write (const char *path, const struct kept *k, char **why)
{
  CLEANUP_FREE char *temporary = state_file_temporary (path);
  CLEANUP_CLOSE int fd = -1;

  *why = NULL;
  if (temporary == NULL || state_file_check (path, why) == -1)
    return -1;
  fd = state_file_create (temporary, why);
  if (fd == -1)
    return -1;
  if (fill (fd, k) == -1 || rename (temporary, path) == -1) {
    const int error = errno;

    unlink (temporary); /* the room is needed */
    errno = error;
    return -1;
  }
  return state_file_sync_directory (path);
}

int
kept_file_remove (const char *path)
{
  if (unlink (path) == -1 && errno != ENOENT)
    return -1;
  return state_file_sync_directory (path);
}
