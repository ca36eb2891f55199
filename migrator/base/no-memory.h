/* SPDX-License-Identifier: BSD-3-Clause */
/* There is no memory for what must not be left undone, as noting a range under
 * lease, or asking for what somebody waits for.  The process ends then: its
 * sessions end with it, which is safe at any moment (R7), and running it again
 * goes on from there.  It does not go without a word.
 *
 * For the main thread only.
 */

#ifndef NBDMIGRATE_NO_MEMORY_H
#define NBDMIGRATE_NO_MEMORY_H

/* What is said then; returns the exit status.  NULL: nothing but that. */
extern void no_memory_last_words (int (*say) (void *opaque), void *opaque);

extern void no_memory (void) __attribute__ ((noreturn));

/* The same pointer, which is NULL only where there is no memory. */
extern void *need_memory (void *p);

/* strdup(3) of what must not be missing: it would be taken for something else.
 */
extern char *copy_text (const char *text);

#endif /* NBDMIGRATE_NO_MEMORY_H */
