/* SPDX-License-Identifier: BSD-3-Clause */
/* Records of exports that this proxy does not serve.
 *
 * A record belongs to the name of an export, and what a client gets as the
 * default export has the name that the plugin, or a filter, gives it.  If that
 * is another one after a restart, a disk that was pivoted would look like one
 * that was never moved, and its old image would be served.
 */

#ifndef NBDMIGRATE_OTHER_RECORD_H
#define NBDMIGRATE_OTHER_RECORD_H

/* 1: there is a record in the directory under another name than this one by
 * which the disk is not at its source any more, or that nobody can read; *name
 * is that name, the caller frees it.  0: there is none.  -1 with errno: that
 * cannot be told.
 */
extern int other_record_find (const char *dir, const char *export_name,
                              char **name);

#endif /* NBDMIGRATE_OTHER_RECORD_H */
