/* SPDX-License-Identifier: BSD-3-Clause */
/* An option that is given twice: the last counts, as if the one before had not
 * been there, for each that there is.
 */

#include <fcntl.h>
#include <getopt.h>
#include <string.h>

#include "base/options.h"
#include "unit.h"

#define URIS "nbd+unix:///?socket=/a", "nbd+unix:///?socket=/b"

/* With what it goes together; the option is parsed behind that. */
static const struct twice {
  const char *name, *first, *last, *with;
} all[] = {
  { "--finish", "--finish=detach", "--finish=handover", NULL },
  { "--finish-at", "--finish-at=2098-01-01 00:00",
    "--finish-at=2099-01-01 00:00", NULL },
  { "--window", "--window=01:00-02:00", "--window=03:00-04:00", NULL },
  { "--hook", "--hook=/bin/cat", "--hook=/bin/sh", NULL },
  { "--hook-timeout", "--hook-timeout=3s", "--hook-timeout=4s",
    "--hook=/bin/sh" },
  { "--max-pause", "--max-pause=1s", "--max-pause=2s", NULL },
  { "--max-pause-late", "--max-pause-late=3s", "--max-pause-late=2s", NULL },
  { "--patience", "--patience=9s", "--patience=8s", "--max-pause-late=3s" },
  { "--converge", "--converge=off", "--converge=mirror", NULL },
  { "--reconnect", "--reconnect=9s", "--reconnect=0", NULL },
  { "--throttle-floor", "--throttle-floor=9M", "--throttle-floor=8M", NULL },
  { "--policy", "--policy=explain", "--policy=explain", NULL },
  { "--rate", "--rate=9M", "--rate=0", NULL },
  { "--background", "--background=9", "--background=0", NULL },
  { "--connections", "--connections=9", "--connections=8", NULL },
  { "--depth", "--depth=9", "--depth=8", NULL },
  { "--request-size", "--request-size=64K", "--request-size=128K", NULL },
  { "--sample-seed", "--sample-seed=9", "--sample-seed=0", NULL },
  { "--control", "--control=/x", "--control=/y", NULL },
  { "--timeout", "--timeout=9s", "--timeout=8s", NULL },
  { "--progress-interval", "--progress-interval=9s", "--progress-interval=8s",
    "--progress=log" },
  { "--events", "--events=/x", "--events=/y", NULL },
  { "--metrics", "--metrics=/x", "--metrics=/y", NULL },
  { "--progress", "--progress", "--progress=log", NULL },
  { "--progress", "--progress", "--progress=1", NULL },
  { "--progress", "--progress=log", "--progress", NULL },
  { "--progress", "--progress=log", "--progress=1", NULL },
  { "--progress", "--progress=1", "--progress", NULL },
  { "--progress", "--progress=1", "--progress=log", NULL },
  { "--progress", "--progress=1", "-p", NULL },
};

#define ALL (sizeof all / sizeof all[0])

/* What is owned is the same in each, and freed. */
static void
parse (struct options *o, const char *with, const char *first, const char *last)
{
  const char *argv[7] = { "nbdmigrate" }, *const args[] = { with, first, last,
                                                            URIS };
  int argc = 1;
  size_t i;

  for (i = 0; i < sizeof args / sizeof args[0]; ++i)
    if (args[i] != NULL)
      argv[argc++] = args[i];
  memset (o, 0, sizeof *o);
  optind = 0; /* glibc: from the beginning */
  CU_ASSERT_EQUAL (options_parse (o, argc, (char **)argv), -1);
  options_free (o);
  o->pairs = NULL;
}

static void
test_last_counts (void)
{
  struct options twice, once, other;
  size_t i;

  for (i = 0; i < ALL; ++i) {
    const struct twice *t = &all[i];

    parse (&twice, t->with, t->first, t->last);
    parse (&once, t->with, NULL, t->last);
    parse (&other, t->with, NULL, t->first);
    if (memcmp (&twice, &once, sizeof twice) != 0)
      printf ("%s %s is not %s\n", t->first, t->last, t->last);
    CU_ASSERT_EQUAL (memcmp (&twice, &once, sizeof twice), 0);
    if (strcmp (t->first, t->last) != 0)
      CU_ASSERT_NOT_EQUAL (memcmp (&other, &once, sizeof other), 0);
  }
}

static bool
is_tried (const char *name, size_t length)
{
  size_t i;

  for (i = 0; i < ALL; ++i)
    if (strlen (all[i].name) == length &&
        strncmp (all[i].name, name, length) == 0)
      return true;
  return strncmp (name, "--shared-base", length) == 0; /* once for each disk */
}

static void
read_help (char text[16384])
{
  char path[] = "/tmp/nbdmigrate-help.XXXXXX";
  const int fd = mkstemp (path), out = dup (STDOUT_FILENO);
  ssize_t n;

  CU_ASSERT_FATAL (fd != -1 && out != -1);
  unlink (path);
  fflush (stdout);
  dup2 (fd, STDOUT_FILENO);
  CU_ASSERT_EQUAL (options_help (), EXIT_DONE);
  dup2 (out, STDOUT_FILENO);
  n = pread (fd, text, 16383, 0);
  text[n > 0 ? n : 0] = '\0';
  close (fd);
  close (out);
}

/* Each option of the help that takes a value is above. */
static void
test_all_are_tried (void)
{
  static char text[16384];
  unsigned found = 0;
  char *line;

  read_help (text);
  for (line = strtok (text, "\n"); line; line = strtok (NULL, "\n")) {
    const char *name = strstr (line, "--");
    size_t n;

    if (name == NULL || line[0] != ' ' || name - line > 6)
      continue;
    n = strspn (name, "-abcdefghijklmnopqrstuvwxyz");
    if (name[n] != '=' && strncmp (name + n, "[=", 2) != 0)
      continue;
    found++;
    if (!is_tried (name, n))
      printf ("%.*s is not tried\n", (int)n, name);
    CU_ASSERT (is_tried (name, n));
  }
  CU_ASSERT (found >= 24);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the last counts", test_last_counts },
    { "all are tried", test_all_are_tried },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("options", tests);
}
