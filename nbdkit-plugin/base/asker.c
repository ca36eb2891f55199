/* SPDX-License-Identifier: BSD-3-Clause */

#include <stdio.h>

#include "base/asker.h"

static _Thread_local pid_t asker_pid;
static _Thread_local uid_t asker_uid;

void
asker_set (pid_t pid, uid_t uid)
{
  asker_pid = pid;
  asker_uid = uid;
}

const char *
asker_text (char text[ASKER_TEXT_MAX])
{
  text[0] = '\0';
  if (asker_pid != 0)
    snprintf (text, ASKER_TEXT_MAX, ", asked for by process %ld of user %ld",
              (long)asker_pid, (long)asker_uid);
  return text;
}
