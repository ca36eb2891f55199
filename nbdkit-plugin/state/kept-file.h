/* SPDX-License-Identifier: BSD-3-Clause */
/* DIR/kept: what the destination has acknowledged and not flushed, kept when
 * the proxy stops while the destination is away, for the next one to send again
 * before anything else is served (R13).  Also how long that one has to wait
 * because a write was sent and not answered, which may still land (R17).
 *
 *   offset  bytes
 *        0     16  magic, "nbdmigrate kept "
 *       16      4  format version
 *       20      4  how long what was not answered may take to land, in ms; 0:
 *                  there is no such write
 *       24      8  disk size
 *       32      8  generation of the owner record
 *       40      8  number of entries
 *       48      8  bytes of all that follows the header
 *       56     32  SHA-256 of the export's name
 *       88      4  length of the destination's URI
 *       92      4  reserved, 0
 *       96   2048  destination's URI
 *     2144   1888  reserved, 0
 *     4032     32  SHA-256 of all entries
 *     4064     32  SHA-256 of the header before
 *     4096      -  the entries, oldest first, without gaps
 *
 *   An entry: 4 bytes kind, 4 bytes flags, 8 offset, 8 length, for a write or
 *   witness as many bytes of data.
 *
 * Numbers are little endian.  The digests are against torn writes and rot.  The
 * file is made whole under another name, mode 0600 as it holds the guest's
 * data.
 */

#ifndef NBDMIGRATE_KEPT_FILE_H
#define NBDMIGRATE_KEPT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are in the file. */
enum kept_kind {
  KEPT_WRITE = 1,
  KEPT_ZERO = 2,
  KEPT_TRIM = 3,
  KEPT_WITNESS = 4, /* no write: the destination holds it, if it is the disk */
};

#define KEPT_NO_HOLE 1u /* of a zero: it must not make holes */

struct kept_entry {
  enum kept_kind kind;
  uint32_t flags;
  uint64_t offset;
  uint64_t length;
  const uint8_t *data; /* of a write or witness */
};

struct kept {
  const char *export_name;
  const char *uri;
  uint64_t disk_bytes;
  uint64_t generation;
  uint32_t grace_ms;
  const struct kept_entry *entries;
  size_t nr_entries;
};

/* A file that was read: what 'kept' points to lives in it. */
struct kept_file {
  struct kept kept;
  uint64_t bytes; /* of the disk, that the entries change */
  uint8_t *content;
  char *uri;
  struct kept_entry *entries;
};

enum kept_status {
  KEPT_NONE, /* there is no file */
  KEPT_OK,
  KEPT_BAD, /* there is one, but it is not to be used */
};

/* Read the file of this export; whether it is of this disk and state the caller
 * has to ask.  KEPT_BAD: *why says what is wrong (the caller frees it; NULL: no
 * memory).  Otherwise NULL.  KEPT_OK: kept_file_free is to be called.
 */
extern enum kept_status kept_file_read (const char *path,
                                        const char *export_name,
                                        struct kept_file *f, char **why);
extern void kept_file_free (struct kept_file *f);

/* Make the file, durably, in place of another one.  -1 with errno, and *why may
 * say more (the caller frees it).
 */
extern int kept_file_write (const char *path, const struct kept *k, char **why);

/* Remove it, durably: it must never come back once newer data were written.
 * -1 with errno.
 */
extern int kept_file_remove (const char *path);

#endif /* NBDMIGRATE_KEPT_FILE_H */
