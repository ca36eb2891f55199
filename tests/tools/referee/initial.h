/* SPDX-License-Identifier: BSD-3-Clause */
/* What the disks held before the guest wrote anything (version 0). */

#ifndef REFEREE_INITIAL_H
#define REFEREE_INITIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "layout.h"

enum initial_kind {
  INITIAL_ZERO,
  INITIAL_PATTERN, /* what `referee pattern` wrote on a disk of zeroes */
  INITIAL_BASE,    /* what another disk or file holds */
  INITIAL_ANY,     /* not known, everything is right */
};

struct nbd_handle;

struct initial {
  enum initial_kind kind;
  uint64_t seed;    /* of the pattern */
  uint64_t density; /* of the pattern, percent */
  uint32_t bases;   /* how many of the following are open */
  struct nbd_handle *nbd[LAYOUT_DISKS_MAX]; /* or NULL and a file: */
  int fd[LAYOUT_DISKS_MAX];
};

/* "zero", "any", "pattern:SEED:DENSITY"; ends the process otherwise. */
extern void initial_parse (struct initial *i, const char *text);

/* The same as text, for the record. */
extern const char *initial_text (const struct initial *i, char text[64]);

/* The next disk's content is that of an NBD URI or of a file. */
extern void initial_add_base (struct initial *i, const char *where);
extern void initial_close (struct initial *i);

/* Version 0 of these bytes.  False if it is not known. */
extern bool initial_fill (const struct initial *i, uint32_t disk,
                          uint64_t offset, uint8_t *buf, size_t length);

/* The pattern is made of blocks of this size that are written or left out. */
#define PATTERN_BLOCK 65536
extern bool pattern_has (uint64_t seed, uint64_t density, uint64_t block);

#endif /* REFEREE_INITIAL_H */
