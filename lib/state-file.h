/* SPDX-License-Identifier: BSD-3-Clause */
/* The one way in which migrate-dir and the files in it are opened, by the
 * filter and by whoever looks into it.
 *
 * What is in these files decides who owns a disk, so only what nobody else can
 * have written is believed: the directory and the files belong to us or to
 * root (a file may also belong to whom the directory belongs), and neither the
 * group nor others can write to them.  A file is a regular one: no link is
 * followed, and opening a FIFO or a device neither waits nor does anything.
 *
 * Nothing is removed or changed that was refused.
 */

#ifndef NBDMIGRATE_STATE_FILE_H
#define NBDMIGRATE_STATE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include <sys/types.h>

/* Open a file; 'flags' are O_RDONLY or O_RDWR, and O_CREAT if it is to be made
 * with mode 0600 where it is not there.  -1 with errno: it is not there
 * (ENOENT), or *why says what is wrong with it and what to do (the caller frees
 * it; NULL: no memory).
 */
extern int state_file_open (const char *path, int flags, char **why);

/* The same, for reading and writing, and empty it if it was there.  -1 with
 * errno and *why, which names the file.
 */
extern int state_file_create (const char *path, char **why);

/* All of it, or -1 with errno; EIO where the file ends before. */
extern int state_file_read (int fd, uint8_t *bytes, size_t count, off_t offset);
extern int state_file_write (int fd, const uint8_t *bytes, size_t count,
                             off_t offset);

/* The path of an export's file of this kind ("history", ...): DIR/KIND for the
 * default export "", DIR/KIND.NAME for others, with the name escaped as in
 * record_file_name.  The caller frees it.  NULL: no memory.
 */
extern char *state_file_path (const char *dir, const char *kind,
                              const char *export_name);

#define STATE_FILE_NEW ".new-"

/* What a new file is called until it is whole: this comes before its name, and
 * the name of no other file begins so.  The caller frees it.  NULL: no memory.
 */
extern char *state_file_temporary (const char *path);

/* Make it durable which names the directory of this file has.  -1 with errno.
 */
extern int state_file_sync_directory (const char *path);

/* Whether the file may be replaced by another one of this name (rename) or be
 * removed: it could be opened, or is not there.  -1 with errno and *why.
 */
extern int state_file_check (const char *path, char **why);

/* Open the directory itself; it may also belong to the user 'also'.  -1 with
 * errno and *why.
 */
extern int state_dir_open (const char *path, uid_t also, char **why);

#endif /* NBDMIGRATE_STATE_FILE_H */
