/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes and durations as people write and read them. */

#ifndef NBDMIGRATE_UNITS_H
#define NBDMIGRATE_UNITS_H

#include <stdint.h>

/* "0", "4096", "64K", "1M", "1.5G", "2T", "1P"; the suffix in either case,
 * powers of 1024, with or without "iB".  Not "MB", which others take for a
 * power of 1000.  A fraction is rounded to the nearest byte.  Negative
 * numbers, blanks, other suffixes and trailing text are EINVAL, what does not
 * fit in 63 bits is ERANGE.  Returns 0, or -1 with errno set.
 */
extern int units_parse_bytes (const char *text, uint64_t *bytes);

/* "300ms", "2s", "1.5s", "5m", "1h" to milliseconds.  A bare number is
 * refused unless it is 0: nobody agrees on its unit.  Errors as above.
 */
extern int units_parse_ms (const char *text, uint64_t *ms);

#define UNITS_TEXT_MAX 32

/* "512 B", "64.0 KiB", "1.5 GiB". Returns 'text'. */
extern const char *units_format_bytes (char text[UNITS_TEXT_MAX],
                                       uint64_t bytes);

/* "0 ms", "300 ms", "2.5 s", "3 min 20 s", "2 h 5 min".  Returns 'text'. */
extern const char *units_format_ms (char text[UNITS_TEXT_MAX], uint64_t ms);

/* The same as units_parse_ms takes it back: "0", "300ms", "90s", "2m", "24h".
 * Returns 'text'.
 */
extern const char *units_spell_ms (char text[UNITS_TEXT_MAX], uint64_t ms);

#endif /* NBDMIGRATE_UNITS_H */
