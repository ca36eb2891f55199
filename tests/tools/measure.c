/* SPDX-License-Identifier: BSD-3-Clause */
/* What a command costs, and what it makes others do.
 *
 *   measure RESULT [NAME=PID ...] -- COMMAND [ARGUMENT ...]
 *
 * Writes one JSON object to the file RESULT: "seconds" from start to end;
 * "cpu", an object of CPU seconds: "client", the command with all children it
 * has waited for, and each NAME, what that process used meanwhile, also in
 * threads that have ended; "peak_kib", the largest resident set of the command
 * or any such child; "shared_kib", how much of the command's own was shared
 * memory at most (a ring), as seen in samples; "faults" and "switches", page
 * faults and context switches of the command and such children.  Exits as the
 * command did.
 *
 * CPU clocks of other processes count nanoseconds; /proc/PID/stat would round
 * to its ticks.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "cleanup.h"

#define SAMPLE_MS 20
#define MAX_PROCESSES 16

struct process {
  char name[32];
  clockid_t clock;
  double before; /* s */
};

static struct process processes[MAX_PROCESSES];
static size_t nr_processes;

static void __attribute__ ((noreturn)) die (const char *what)
{
  fprintf (stderr, "measure: %s: %s\n", what, strerror (errno));
  exit (EXIT_FAILURE);
}

static double
seconds_of (clockid_t clock)
{
  struct timespec t;

  if (clock_gettime (clock, &t) == -1)
    die ("clock_gettime");
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double
seconds_of_timeval (const struct timeval *t)
{
  return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

/* NAME=PID */
static void
add_process (const char *arg)
{
  const char *equals = strchr (arg, '=');
  struct process *p = &processes[nr_processes];

  if (equals == NULL || nr_processes == MAX_PROCESSES ||
      (size_t)(equals - arg) >= sizeof p->name) {
    errno = EINVAL;
    die (arg);
  }
  memcpy (p->name, arg, (size_t)(equals - arg));
  errno = clock_getcpuclockid (atoi (equals + 1), &p->clock);
  if (errno != 0)
    die (arg);
  nr_processes++;
}

/* Signals end the command first, and then this. */
static volatile pid_t child;

static void
pass_on (int sig)
{
  if (child > 0)
    kill (child, sig);
}

static void
start (char *argv[])
{
  child = fork ();
  if (child == -1)
    die ("fork");
  if (child == 0) {
    execvp (argv[0], argv);
    fprintf (stderr, "measure: %s: %s\n", argv[0], strerror (errno));
    _exit (127);
  }
}

/* KiB of shared memory that is resident now; 0 if that cannot be read. */
static long
shared_kib (void)
{
  char path[64], line[256];
  long kib = 0;
  FILE *fp;

  snprintf (path, sizeof path, "/proc/%d/status", (int)child);
  fp = fopen (path, "re");
  if (fp == NULL)
    return 0;
  while (fgets (line, sizeof line, fp) != NULL &&
         sscanf (line, "RssShmem: %ld", &kib) != 1)
    ;
  fclose (fp);
  return kib;
}

/* Until the command has ended; returns the most that shared_kib has said. */
static long
sample_until_end (void)
{
  CLEANUP_CLOSE int fd = (int)syscall (SYS_pidfd_open, child, 0);
  struct pollfd ended = { .fd = fd, .events = POLLIN };
  long most = 0;

  while (fd >= 0 && poll (&ended, 1, SAMPLE_MS) <= 0) {
    const long kib = shared_kib ();

    if (kib > most)
      most = kib;
  }
  return most;
}

static void
write_result (const char *path, double seconds, long shared,
              const struct rusage *usage)
{
  CLEANUP_JSON json_t *cpu = json_object ();
  CLEANUP_JSON json_t *result = NULL;

  json_object_set_new (cpu, "client",
                       json_real (seconds_of_timeval (&usage->ru_utime) +
                                  seconds_of_timeval (&usage->ru_stime)));
  for (size_t i = 0; i < nr_processes; i++)
    json_object_set_new (
      cpu, processes[i].name,
      json_real (seconds_of (processes[i].clock) - processes[i].before));
  result = json_pack (
    "{s:f, s:O, s:I, s:I, s:I, s:I}", "seconds", seconds, "cpu", cpu,
    "peak_kib", (json_int_t)usage->ru_maxrss, "shared_kib", (json_int_t)shared,
    "faults", (json_int_t)(usage->ru_minflt + usage->ru_majflt), "switches",
    (json_int_t)(usage->ru_nvcsw + usage->ru_nivcsw));
  if (result == NULL || json_dump_file (result, path, JSON_COMPACT) == -1)
    die (path);
}

int
main (int argc, char *argv[])
{
  int i = 2, status;
  struct rusage usage;
  double begin, seconds;
  long shared;

  for (; i < argc && strcmp (argv[i], "--") != 0; i++)
    add_process (argv[i]);
  if (i + 1 >= argc) {
    fprintf (stderr, "usage: measure RESULT [NAME=PID ...] -- COMMAND ...\n");
    return 2;
  }
  signal (SIGTERM, pass_on);
  signal (SIGINT, pass_on);
  for (size_t p = 0; p < nr_processes; p++)
    processes[p].before = seconds_of (processes[p].clock);
  begin = seconds_of (CLOCK_MONOTONIC);
  start (argv + i + 1);
  shared = sample_until_end ();
  while (wait4 (child, &status, 0, &usage) == -1)
    if (errno != EINTR)
      die ("wait4");
  seconds = seconds_of (CLOCK_MONOTONIC) - begin;
  write_result (argv[1], seconds, shared, &usage);
  return WIFEXITED (status) ? WEXITSTATUS (status) : 128 + WTERMSIG (status);
}
