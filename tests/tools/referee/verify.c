/* SPDX-License-Identifier: BSD-3-Clause */
/* The verdict on each cell, and on all. */

#include "verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "judge.h"
#include "util.h"

#define EXPLAIN_MAX 5 /* failures that are told at length */

void
verify_cell (struct verdict *v, size_t cell, const uint8_t *buf)
{
  v->cells++;
  v->bytes += v->record.layout.cells[cell].length;
  if (v->cut != NULL) {
    v->wrong += !cut_cell (v->cut, cell, buf);
    return;
  }
  if (judge_latest (&v->record, cell, buf))
    return;
  if (v->wrong++ < EXPLAIN_MAX)
    judge_explain (&v->record, cell, buf);
}

void
verify_gap (struct verdict *v, uint32_t disk, uint64_t offset,
            const uint8_t *buf, uint32_t length)
{
  static uint8_t content[LAYOUT_CELL_MAX];
  uint32_t i;

  v->bytes += length;
  if (!initial_fill (&v->record.initial, disk, offset, content, length) ||
      memcmp (content, buf, length) == 0)
    return;
  if (v->wrong++ >= EXPLAIN_MAX)
    return;
  for (i = 0; content[i] == buf[i]; i++)
    ;
  say ("disk %" PRIu32 ", offset %" PRIu64
       ": nobody wrote here, but there is %02x, initially it was %02x",
       disk, offset + i, buf[i], content[i]);
}

static void
start (struct verdict *v, const struct verify_options *o)
{
  record_load (&v->record, o->log, 0);
  if (o->initial != NULL)
    initial_parse (&v->record.initial, o->initial);
  for (uint32_t i = 0; i < o->nr_bases; i++)
    initial_add_base (&v->record.initial, o->bases[i]);
  if (o->disks != v->record.layout.disks)
    die (EXIT_USAGE, "the record has %" PRIu32 " disks, not %" PRIu32,
         v->record.layout.disks, o->disks);
  if (o->cut)
    v->cut = cut_new (&v->record, o->cut_after_us, o->cut_before_us);
}

static void
report (const struct verdict *v, int64_t when_us)
{
  json_t *const json = json_pack (
    "{s:I, s:s, s:I, s:I, s:I}", "seed", (json_int_t)v->record.layout.seed,
    "mode", v->o->cut ? "cut" : "final", "cells", (json_int_t)v->cells, "bytes",
    (json_int_t)v->bytes, "wrong", (json_int_t)v->wrong);

  if (v->cut != NULL)
    json_object_set_new (json, "cut_at", json_real (when_us / 1e6));
  json_dumpf (json, stdout, JSON_COMPACT);
  putchar ('\n');
  json_decref (json);
}

int
verify_run (const struct verify_options *o)
{
  struct verdict v = { .o = o };
  int64_t when_us = 0;

  start (&v, o);
  for (uint32_t disk = 0; disk < o->disks; disk++)
    verify_read (&v, disk);
  if (v.cut != NULL)
    v.wrong += cut_conclude (v.cut, &when_us);
  report (&v, when_us);
  if (v.wrong > 0)
    say ("%" PRIu64 " wrong places, seed %" PRIu64, v.wrong,
         v.record.layout.seed);
  cut_free (v.cut);
  record_free (&v.record);
  return v.wrong > 0 ? EXIT_WRONG : EXIT_GOOD;
}
