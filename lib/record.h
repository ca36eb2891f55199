/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner record: who owns the disk, in DIR/state (R10, R14, R20).
 *
 * It knows files, not nbdkit: every function is blocking and returns its
 * error as a text.  Not locked: the caller serialises the calls for one file,
 * and holds the lock on the directory.
 *
 * The file:
 *
 *   0                    slot 0, RECORD_SLOT_BYTES
 *   RECORD_SLOT_STRIDE   slot 1
 *   RECORD_MAP_OFFSET    end of a new file
 *
 * Why two slots, and when which of them is believed: see record.c.
 */

#ifndef NBDMIGRATE_RECORD_H
#define NBDMIGRATE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "ownership.h"

#define RECORD_SLOT_BYTES 4096
#define RECORD_SLOT_STRIDE 65536
#define RECORD_MAP_OFFSET (2 * RECORD_SLOT_STRIDE)
#define RECORD_URI_MAX 2048    /* bytes of the destination's URI */
#define RECORD_SOURCE_MAX 1760 /* bytes of the source's URI */

/* How the last session ended.  The numbers are in the file. */
enum record_end {
  RECORD_END_NONE = 0, /* there was no session yet */
  RECORD_END_INTERRUPTED = 1,
  RECORD_END_DETACHED = 2,
  RECORD_END_HANDED_OVER = 3,
  RECORD_END_PIVOTED = 4,
  RECORD_END_ABORTED = 5,
};

/* "none", "interrupted", ... */
extern const char *record_end_name (enum record_end end);

struct record {
  enum owner owner; /* OWNER_UNKNOWN cannot be written */
  enum record_end last_end;
  uint64_t disk_bytes;
  uint64_t chunk_bytes;
  uint64_t export_id;
  uint64_t map_id; /* the dirty map that holds for this record; 0: none does */
  /* Made up with the first record of a migrate-dir, and in all that follow: one
   * that was emptied has another.  0: not known, since it was settled by
   * reopen.
   */
  uint64_t origin;
  /* The longest that a write took, as far as known, in milliseconds: at the
   * destination, and at the source.
   */
  uint32_t delay_ms, source_delay_ms;
  char destination[RECORD_URI_MAX + 1]; /* "" if there is none */
  char source[RECORD_SOURCE_MAX + 1];   /* "" if it is the local one */
};

enum record_status {
  RECORD_NONE,       /* there is no file: a fresh disk, the source owns it */
  RECORD_OK,         /* *rec is the truth */
  RECORD_UNREADABLE, /* there is a file, but the owner cannot be told */
  RECORD_LACKING,    /* nor whether there is one, for lack of descriptors or
                        memory: it can be tried again */
};

enum record_outcome {
  RECORD_WRITTEN, /* durable: the new record holds */
  RECORD_KEPT,    /* not written; the old record is whole and durable */
  RECORD_UNSURE,  /* neither could be made sure: nothing may pass the gate
                     until a later record_write succeeds (R10) */
};

struct record_file;

/* "state" for the default export "", otherwise "state." and the name with
 * every byte but letters, digits, '.', '_' and '-' as %XX; for a name too long
 * for a file name its SHA-256 instead.  The caller frees it.  NULL: no memory.
 */
extern char *record_file_name (const char *export_name);

/* The export name behind such a file name; NULL if it is no such file name or
 * only the digest is there (or no memory).  The caller frees it.
 */
extern char *record_export_name (const char *file_name);

/* The record of one export in a directory; touches no file yet.  Without
 * 'sync' the record survives the death of the process, not a power failure.
 * NULL with errno set on error.
 */
extern struct record_file *record_new (const char *dir, const char *export_name,
                                       bool sync);
extern void record_free (struct record_file *f);

/* What the file says.  'disk_bytes' is the present size of the disk, which the
 * record must agree with; 0: do not compare.  For RECORD_UNREADABLE *why says
 * what is wrong and how to settle it, for RECORD_LACKING what is wrong; for
 * RECORD_OK it may be a warning (one of the slots was bad and could not be
 * mended); otherwise it is NULL.  The caller frees *why.
 *
 * record_open is for the owner of the directory: a slot that a crash left
 * behind is brought up to date before it returns, so that the first request
 * passes only after that (R10).  record_peek only looks.
 */
extern enum record_status record_open (struct record_file *f,
                                       uint64_t disk_bytes, struct record *rec,
                                       char **why);
extern enum record_status record_peek (const struct record_file *f,
                                       uint64_t disk_bytes, struct record *rec,
                                       char **why);

/* Write a record, durably.  record_open must have been called before.  After
 * RECORD_NONE and RECORD_UNREADABLE the file is made anew.  Otherwise than for
 * RECORD_WRITTEN *why says what failed and errno is set; the caller frees it.
 */
extern enum record_outcome record_write (struct record_file *f,
                                         const struct record *rec, char **why);

/* The generation in the file: a count of the records written.  After
 * RECORD_UNSURE that may be a higher one; this is what it is at least.
 */
extern uint64_t record_generation (const struct record_file *f);

/* The open file, for what lies behind RECORD_MAP_OFFSET; -1 if there is none.
 * It changes when record_write makes the file anew.
 */
extern int record_fd (const struct record_file *f);

#endif /* NBDMIGRATE_RECORD_H */
