/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdlib.h>
#include <string.h>

#include "base/no-memory.h"
#include "disks/drive.h"
#include "disks/gates.h"
#include "protocol.h"

static json_t *
hold_arguments (struct disk *d)
{
  return json_pack ("{s:I}", "deadline_ms", (json_int_t)d->disks->max_pause_ms);
}

static void
note_holds (struct disks *disks)
{
  size_t i;

  for (i = 0; i < disks->n; ++i) {
    struct disk *d = &disks->v[i];
    const char *token =
      json_string_value (json_object_get (d->answer.value, "token"));

    free (d->token);
    d->token = token ? copy_text (token) : NULL;
    if (protocol_get_u64 (d->answer.value, "remaining_bytes",
                          &d->remaining_bytes) == 1)
      d->told_bytes = d->copied_bytes; /* nothing is under way */
  }
}

static void
released (void *opaque, const struct control_answer *a)
{
  struct disk *d = opaque;

  d->held = a->value != NULL; /* a void token: it is open already */
  d->reports_pending--;
}

/* That of a lost session opens by itself (R7). */
bool
gates_open (struct disks *disks)
{
  bool held = true;
  size_t i;

  for (i = 0; i < disks->n; ++i) {
    struct disk *d = &disks->v[i];

    d->held = false;
    if (d->token != NULL && disk_is_connected (d)) {
      d->reports_pending++;
      control_send (d->control, "release",
                    json_pack ("{s:s}", "token", d->token), NULL, 0, released,
                    d);
    }
    free (d->token);
    d->token = NULL;
  }
  for (i = 0; i < disks->n; ++i) {
    while (disks->v[i].reports_pending > 0)
      drive (disks, 100);
    held &= disks->v[i].held;
  }
  return held;
}

uint64_t
gates_commit_us (const struct disks *disks)
{
  uint64_t us = 0;
  size_t i;

  for (i = 0; i < disks->n && disks->finish != FINISH_DETACH; ++i)
    if (disks->v[i].record_us > us)
      us = disks->v[i].record_us;
  return us;
}

enum gates
gates_shut (struct disks *disks)
{
  const struct disk *d;

  if (drive_ask_all (disks, "hold", hold_arguments) == 0) {
    note_holds (disks);
    return GATES_SHUT;
  }
  note_holds (disks);
  d = drive_refused (disks);
  if (drive_refused_with (d, "GateExpired"))
    return GATES_MISSED;
  drive_fail_refused (disks, "closing the gate of");
  return GATES_FAILED;
}
