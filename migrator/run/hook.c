/* SPDX-License-Identifier: BSD-3-Clause */
/* The loop goes on while it runs: guests' writes are copied, and the sessions
 * live.  It is a process group of its own, so that what it has started ends
 * with it, and Ctrl-C is not sent to it.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/say.h"
#include "cleanup.h"
#include "disks/drive.h"
#include "run/hook.h"
#include "run/migration.h"
#include "show/events.h"
#include "units.h"

extern char **environ;

/* While a file system is frozen nobody should wait for long for its end to be
 * noticed.
 */
#define ROUND_MS 5

/* How long one may still take of which nobody needs the end any more, or that
 * was killed: not even that ends a process at once that a device holds up.
 */
#define REST_US (INT64_C (5) * 1000000)

/* Standard output may carry the events. */
static int
set_up (posix_spawn_file_actions_t *files, posix_spawnattr_t *attr)
{
  sigset_t none, defaults;

  sigemptyset (&none);
  sigemptyset (&defaults);
  sigaddset (&defaults, SIGPIPE);
  errno =
    posix_spawn_file_actions_addopen (files, STDIN_FILENO, "/dev/null",
                                      O_RDONLY, 0)
      ?: posix_spawn_file_actions_adddup2 (files, STDERR_FILENO, STDOUT_FILENO)
      ?: posix_spawnattr_setsigmask (attr, &none)
      ?: posix_spawnattr_setsigdefault (attr, &defaults)
      ?: posix_spawnattr_setpgroup (attr, 0)
      ?: posix_spawnattr_setflags (attr, POSIX_SPAWN_SETSIGMASK |
                                           POSIX_SPAWN_SETSIGDEF |
                                           POSIX_SPAWN_SETPGROUP);
  return errno == 0 ? 0 : -1;
}

/* -1 with errno. */
static pid_t
start (const struct migration *m, const char *step)
{
  const struct options *o = m->disks.options;
  CLEANUP_FREE char **argv = calloc (o->nr_pairs + 3, sizeof *argv);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attr;
  pid_t pid = -1;
  size_t i;

  if (argv == NULL)
    return -1;
  argv[0] = (char *)o->hook;
  argv[1] = (char *)step;
  for (i = 0; i < o->nr_pairs; ++i)
    argv[2 + i] = o->pairs[i].source;
  posix_spawn_file_actions_init (&files);
  posix_spawnattr_init (&attr);
  if (set_up (&files, &attr) == 0) {
    errno = posix_spawn (&pid, o->hook, &files, &attr, argv, environ);
    if (errno != 0)
      pid = -1;
  }
  posix_spawn_file_actions_destroy (&files);
  posix_spawnattr_destroy (&attr);
  return pid;
}

struct hook_end {
  int status;   /* as of waitpid; 0: well */
  bool stopped; /* nobody needed it any more */
  bool killed;  /* for that, or since it took too long */
  bool left;    /* it went on all the same */
};

/* The one before the pause is not needed any more when the migration ends, or
 * has lost a destination.
 */
static struct hook_end
await (struct migration *m, pid_t pid, bool before)
{
  struct hook_end end = { .status = -1 };
  int64_t now_us = loop_now_us ();
  int64_t until_us = now_us + (int64_t)m->disks.options->hook_timeout_ms * 1000;
  pid_t r;

  while ((r = waitpid (pid, &end.status, WNOHANG)) == 0 ||
         (r == -1 && errno == EINTR)) {
    now_us = loop_now_us ();
    if (before && m->disks.failure.stop != STOP_NO && !end.killed &&
        until_us > now_us + REST_US) {
      end.stopped = true;
      until_us = now_us + REST_US;
    }
    if (now_us >= until_us) {
      end.left = end.killed;
      if (end.left)
        break;
      end.killed = true;
      kill (-pid, SIGKILL);
      until_us = now_us + REST_US;
    }
    drive (&m->disks, ROUND_MS);
  }
  if (r != pid)
    end.status = -1;
  return end;
}

static void
say_end (const struct options *o, const char *step, const struct hook_end *end)
{
  char limit[UNITS_TEXT_MAX];

  if (end->killed && !end->stopped)
    say_error ("the hook %s %s has not ended within %s, and was killed",
               o->hook, step, units_format_ms (limit, o->hook_timeout_ms));
  else if (end->killed)
    say_error ("the hook %s %s was killed, since that pause is called off",
               o->hook, step);
  else if (WIFEXITED (end->status) && WEXITSTATUS (end->status) != 0)
    say_error ("the hook %s %s failed with exit status %d", o->hook, step,
               WEXITSTATUS (end->status));
  else if (end->status != 0)
    say_error ("the hook %s %s was ended by a signal", o->hook, step);
  if (end->left)
    say_error ("the hook %s %s has not ended for that, and is not waited for "
               "any longer",
               o->hook, step);
}

static bool
run_hook (struct migration *m, const char *step, bool before)
{
  const struct options *o = m->disks.options;
  const int64_t begin_us = loop_now_us ();
  const pid_t pid = start (m, step);
  struct hook_end end = { .status = -1 };

  if (pid == -1)
    say_error ("running the hook %s %s: %s", o->hook, step, strerror (errno));
  else {
    m->hook_pid = pid;
    end = await (m, pid, before);
    m->hook_pid = 0;
  }
  event_hook (step, (double)(loop_now_us () - begin_us) / 1000,
              end.status == 0);
  if (pid != -1)
    say_end (o, step, &end);
  return end.status == 0;
}

/* ---- before and after the pause ---------------------------------------- */

bool
hook_before (struct migration *m)
{
  if (m->disks.options->hook == NULL)
    return true;
  m->hook_owed = true;
  m->hook_late = false;
  if (!run_hook (m, "before", true))
    return false;
  m->hook_until_us =
    loop_now_us () + (int64_t)m->disks.options->hook_timeout_ms * 1000;
  return true;
}

void
hook_after (struct migration *m)
{
  if (!m->hook_owed)
    return;
  m->hook_owed = false;
  m->hook_until_us = 0;
  run_hook (m, "after", false);
}

/* In the pause there is the limit of that. */
void
hook_watch (struct migration *m, int64_t now_us)
{
  char limit[UNITS_TEXT_MAX];

  if (m->hook_until_us == 0 || m->disks.in_pause ||
      (!m->paused && now_us < m->hook_until_us))
    return;
  m->hook_late = true;
  if (m->paused)
    say_info ("the pause is called off, since the copying is paused");
  else
    say_error ("the pause has not begun within %s after the hook %s before, "
               "and is called off; it will be tried again",
               units_format_ms (limit, m->disks.options->hook_timeout_ms),
               m->disks.options->hook);
  hook_after (m);
}

/* One that runs before the pause must not freeze anything after this. */
void
hook_leave (struct migration *m)
{
  if (!m->hook_owed)
    return;
  m->hook_owed = false;
  if (m->hook_pid != 0)
    kill (-m->hook_pid, SIGKILL);
  if (start (m, "after") == -1)
    say_error ("the hook %s has not been run after the pause: do that",
               m->disks.options->hook);
}
