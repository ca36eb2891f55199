/* SPDX-License-Identifier: BSD-3-Clause */
/* The record in memory and its file. */

#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "util.h"

#define LINE_MAX_BYTES 128

/* ---- In memory --------------------------------------------------------- */

static void
add_to_cell (struct cell_ops *c, uint32_t id)
{
  if (c->n == c->allocated) {
    c->allocated = c->allocated ? c->allocated * 2 : 4;
    c->ids = xrealloc (c->ids, c->allocated * sizeof *c->ids);
  }
  c->ids[c->n++] = id;
}

static uint32_t
add_op (struct record *r, enum op_kind kind, int64_t sent_us, size_t first,
        size_t count)
{
  uint32_t id;

  if (first > r->layout.n || count > r->layout.n - first)
    die (EXIT_BROKEN, "record: no such cells: %zu, %zu", first, count);
  if (r->n == r->allocated) {
    r->allocated = r->allocated ? r->allocated * 2 : 4096;
    r->ops = xrealloc (r->ops, r->allocated * sizeof *r->ops);
  }
  r->ops[r->n++] = (struct op){ .kind = kind,
                                .state = OP_SENT,
                                .sent_us = sent_us,
                                .acks = r->acks,
                                .first = first,
                                .count = count };
  id = r->n;
  for (size_t i = first; i < first + count; i++)
    add_to_cell (&r->cells[i], id);
  return id;
}

/* ---- What was flushed -------------------------------------------------- */

static uint32_t
disk_of (const struct record *r, const struct op *op)
{
  return op->kind == OP_FLUSH ? (uint32_t)op->first
                              : r->layout.cells[op->first].disk;
}

/* What was acknowledged before the flush was sent, on its disk; the rest stays.
 */
static void
flushed (struct record *r, const struct op *flush)
{
  const uint32_t disk = disk_of (r, flush);
  size_t kept = 0;

  for (size_t i = 0; i < r->nr_unflushed; i++) {
    const struct op *const op = record_op (r, r->unflushed[i]);

    if (op->acks > flush->acks || disk_of (r, op) != disk)
      r->unflushed[kept++] = r->unflushed[i];
  }
  r->nr_unflushed = kept;
}

static void
not_flushed (struct record *r, uint32_t id)
{
  if (r->nr_unflushed == r->unflushed_allocated) {
    r->unflushed_allocated = r->unflushed_allocated * 2 + 64;
    r->unflushed =
      xrealloc (r->unflushed, r->unflushed_allocated * sizeof *r->unflushed);
  }
  r->unflushed[r->nr_unflushed++] = id;
}

static void
acknowledge (struct record *r, uint32_t id, struct op *op)
{
  if (op->kind == OP_FLUSH) {
    flushed (r, op);
    return;
  }
  op->acks = ++r->acks;
  if (op->kind != OP_WRITE_FUA)
    not_flushed (r, id);
}

static void
lose_cache (struct record *r)
{
  for (size_t i = 0; i < r->nr_unflushed; i++) {
    struct op *const op = &r->ops[r->unflushed[i] - 1];

    op->state = OP_FAILED;
    op->error = EIO;
  }
  r->nr_unflushed = 0;
}

static void
end_op (struct record *r, uint32_t id, int64_t time_us, int error)
{
  struct op *op;

  if (id == 0 || id > r->n || r->ops[id - 1].state != OP_SENT)
    die (EXIT_BROKEN, "record: request %" PRIu32 " ended but was not sent", id);
  op = &r->ops[id - 1];
  op->state = error ? OP_FAILED : OP_ACKED;
  op->error = error;
  op->ended_us = time_us;
  if (error == 0)
    acknowledge (r, id, op);
}

static void
build (struct record *r)
{
  layout_build (&r->layout);
  r->cells = xcalloc (r->layout.n, sizeof *r->cells);
}

void
record_free (struct record *r)
{
  for (size_t i = 0; i < r->layout.n; i++)
    free (r->cells[i].ids);
  free (r->cells);
  free (r->ops);
  free (r->unflushed);
  free (r->out);
  layout_free (&r->layout);
  initial_close (&r->initial);
  if (r->fd >= 0)
    close (r->fd);
}

/* ---- The file ---------------------------------------------------------- */

static void __attribute__ ((format (printf, 2, 3)))
put_line (struct record *r, const char *fmt, ...)
{
  va_list args;

  if (r->out_allocated - r->out_used < LINE_MAX_BYTES) {
    r->out_allocated = r->out_allocated * 2 + 4096;
    r->out = xrealloc (r->out, r->out_allocated);
  }
  va_start (args, fmt);
  r->out_used += vsnprintf (r->out + r->out_used, LINE_MAX_BYTES, fmt, args);
  va_end (args);
}

void
record_write (struct record *r)
{
  size_t done = 0;

  while (r->fd >= 0 && done < r->out_used) {
    const ssize_t n = write (r->fd, r->out + done, r->out_used - done);

    if (n == -1 && errno != EINTR)
      die (EXIT_BROKEN, "writing the record: %s", strerror (errno));
    if (n > 0)
      done += n;
  }
  r->out_used = 0;
}

void
record_create (struct record *r, const char *path)
{
  char initial[64];

  r->fd = open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (r->fd == -1)
    die (EXIT_BROKEN, "%s: %s", path, strerror (errno));
  if (lseek (r->fd, 0, SEEK_END) != 0)
    die (EXIT_USAGE, "%s: there is a record already (--resume goes on)", path);
  build (r);
  put_line (r, "referee 1 %" PRIu64 " %" PRIu64 " %" PRIu64 " %s\n",
            r->layout.seed, r->layout.max_cells, r->layout.align,
            initial_text (&r->initial, initial));
  for (uint32_t i = 0; i < r->layout.disks; i++)
    put_line (r, "D %" PRIu64 "\n", r->layout.disk_bytes[i]);
  record_write (r);
}

uint32_t
record_sent (struct record *r, enum op_kind kind, size_t first, size_t count)
{
  const int64_t now = now_real_us ();
  const uint32_t id = add_op (r, kind, now, first, count);

  put_line (r, "S %" PRIu32 " %" PRIi64 " %c %zu %zu\n", id, now, kind, first,
            count);
  return id;
}

void
record_ended (struct record *r, uint32_t id, int64_t time_us, int error)
{
  end_op (r, id, time_us, error);
  if (error == 0)
    put_line (r, "A %" PRIu32 " %" PRIi64 "\n", id, time_us);
  else
    put_line (r, "E %" PRIu32 " %" PRIi64 " %d\n", id, time_us, error);
}

void
record_lost_cache (struct record *r)
{
  put_line (r, "C %" PRIi64 "\n", now_real_us ());
  lose_cache (r);
}

/* One line of requests; false if it is not one. */
static bool
load_line (struct record *r, const char *line)
{
  uint32_t id;
  int64_t time_us;
  size_t first, count;
  int error = 0;
  char kind;

  if (sscanf (line, "S %" SCNu32 " %" SCNi64 " %c %zu %zu", &id, &time_us,
              &kind, &first, &count) == 5)
    return add_op (r, kind, time_us, first, count) == id;
  if (sscanf (line, "C %" SCNi64, &time_us) == 1) {
    lose_cache (r);
    return true;
  }
  if (sscanf (line, "A %" SCNu32 " %" SCNi64, &id, &time_us) != 2 &&
      sscanf (line, "E %" SCNu32 " %" SCNi64 " %d", &id, &time_us, &error) != 3)
    return false;
  end_op (r, id, time_us, error);
  return true;
}

/* The lines before the first request. */
static bool
load_head (struct record *r, FILE *f, char **line, size_t *allocated)
{
  char initial[64];
  struct layout *const l = &r->layout;
  uint64_t size;
  long where;

  if (getline (line, allocated, f) == -1 ||
      sscanf (*line, "referee 1 %" SCNu64 " %" SCNu64 " %" SCNu64 " %63s",
              &l->seed, &l->max_cells, &l->align, initial) != 4 ||
      l->align == 0)
    return false;
  initial_parse (&r->initial, initial);
  l->disks = 0;
  while ((where = ftell (f)) != -1 && getline (line, allocated, f) != -1) {
    if (sscanf (*line, "D %" SCNu64, &size) != 1)
      break;
    if (l->disks == LAYOUT_DISKS_MAX)
      return false;
    l->disk_bytes[l->disks++] = size;
  }
  build (r);
  return fseek (f, where, SEEK_SET) == 0;
}

/* A guest that was killed may have left half a line: it tells nothing. */
static void
load (struct record *r, const char *path, int append)
{
  CLEANUP_FREE char *line = NULL;
  size_t allocated = 0;
  long whole;
  ssize_t n;
  FILE *const f = fopen (path, "re");

  if (f == NULL)
    die (EXIT_BROKEN, "%s: %s", path, strerror (errno));
  if (!load_head (r, f, &line, &allocated))
    die (EXIT_BROKEN, "%s: this is no record of the referee", path);
  whole = ftell (f);
  while ((n = getline (&line, &allocated, f)) > 0 && line[n - 1] == '\n') {
    if (!load_line (r, line))
      die (EXIT_BROKEN, "%s: bad line: %s", path, line);
    whole += n;
  }
  fclose (f);
  if (append && truncate (path, whole) == -1)
    die (EXIT_BROKEN, "%s: %s", path, strerror (errno));
}

void
record_load (struct record *r, const char *path, int append)
{
  load (r, path, append);
  r->fd = -1;
  if (!append)
    return;
  r->fd = open (path, O_WRONLY | O_APPEND | O_CLOEXEC);
  if (r->fd == -1)
    die (EXIT_BROKEN, "%s: %s", path, strerror (errno));
}
