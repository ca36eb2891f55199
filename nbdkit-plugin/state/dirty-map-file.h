/* SPDX-License-Identifier: BSD-3-Clause */
/* DIR/dirty-map: which chunks of a disk the destination of its migration may
 * lack, so that a process that is started again goes on with it (R14).
 *
 * It holds as long as the owner record (record.h) names its id; then a chunk
 * without a mark is the same on both sides, durably, whatever has become of the
 * process or of the power.  A mark says nothing: it may be.
 *
 * The file:
 *
 *        0   slot 0 of the header, DIRTY_MAP_SLOT_BYTES
 *    65536   slot 1
 *   131072   the marks, in blocks of DIRTY_MAP_BLOCK_BYTES
 *
 * A block has a digest of its own.  One that a power cut has torn, or that was
 * lost, or is of an earlier map, is known by that, and all its chunks count as
 * marked; where a block is whole, each mark in it is.  All of the file is
 * written once when a map begins, so that later writes need no room.
 *
 * Blocking; errors are errno.  Not locked: one call for a file at a time.
 */

#ifndef NBDMIGRATE_DIRTY_MAP_FILE_H
#define NBDMIGRATE_DIRTY_MAP_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRTY_MAP_SLOT_BYTES 4096
#define DIRTY_MAP_SLOT_STRIDE 65536
#define DIRTY_MAP_BLOCKS_OFFSET (2 * DIRTY_MAP_SLOT_STRIDE)
#define DIRTY_MAP_BLOCK_BYTES 4096
#define DIRTY_MAP_BLOCK_WORDS 506 /* of 64 marks */
#define DIRTY_MAP_PROMISE_MAX 2048
#define DIRTY_MAP_CHUNKS_MAX (UINT64_C (1) << 31)

/* The numbers are in the file. */
enum dirty_map_state {
  DIRTY_MAP_IN_USE = 1, /* marks may have been set that are not durable yet */
  DIRTY_MAP_CLOSED = 2, /* by a process that ended cleanly: it is exact */
  DIRTY_MAP_VOID = 3,   /* it says nothing */
};

struct dirty_map_header {
  uint64_t id; /* not 0 */
  enum dirty_map_state state;
  bool detached; /* others may have used the destination since (R20) */
  uint64_t disk_bytes, chunk_bytes;
  char promise[DIRTY_MAP_PROMISE_MAX + 1]; /* of 'begin'; "" if none */
};

struct dirty_map_file {
  char *path;
  uint8_t name_digest[32];
  bool sync;
  int fd; /* -1: not open */
  uint64_t generation;
  struct dirty_map_header header; /* while it is open */
};

/* Touches no file yet; 'path' is copied.  Without 'sync' what is written
 * survives the death of the process, not a loss of power.  NULL with errno.
 */
extern struct dirty_map_file *
dirty_map_file_new (const char *path, const char *export_name, bool sync);
extern void dirty_map_file_free (struct dirty_map_file *f);

/* How many words and blocks the marks of a disk have. */
extern uint64_t dirty_map_words (uint64_t disk_bytes, uint64_t chunk_bytes);
extern uint64_t dirty_map_blocks (uint64_t disk_bytes, uint64_t chunk_bytes);

/* Open the one that is there, and read its header.  -1 with errno: there is
 * none (ENOENT), or *why says what is wrong with it (the caller frees it; NULL:
 * no memory); then f->fd may be open, so that it can be made void.
 */
extern int dirty_map_file_open (struct dirty_map_file *f, char **why);

/* Make a map in which everything is marked, durably, whatever is there.  -1
 * with errno, and *why may say more: there is none, or one that is void.
 */
extern int dirty_map_file_make (struct dirty_map_file *f,
                                const struct dirty_map_header *header,
                                char **why);

/* Write the header, durably.  -1 with errno: it may say either. */
extern int dirty_map_file_set (struct dirty_map_file *f,
                               const struct dirty_map_header *header);

/* Make it void, durably: by the header, else by removing the file.  -1 with
 * errno: it may still hold.
 */
extern int dirty_map_file_void (struct dirty_map_file *f);

/* One block of marks.  Reading: -1 if it is not there as it was written. */
extern int dirty_map_file_read (const struct dirty_map_file *f, uint64_t block,
                                uint64_t words[DIRTY_MAP_BLOCK_WORDS]);
extern int dirty_map_file_write (const struct dirty_map_file *f, uint64_t block,
                                 const uint64_t words[DIRTY_MAP_BLOCK_WORDS]);

/* Make the blocks durable that were written; at once without 'sync'. */
extern int dirty_map_file_sync (const struct dirty_map_file *f);

#endif /* NBDMIGRATE_DIRTY_MAP_FILE_H */
