/* SPDX-License-Identifier: BSD-3-Clause */
/* A small reading of nbdkit's command line, as getopt_long (3) would do it for
 * the one option that matters.  It may go wrong where another option's value
 * looks like -u; the worst outcome is a directory that the server cannot use,
 * which .after_fork notices.
 */

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "run-as.h"

#define COMMAND_LINE_MAX (4 << 20)

/* nbdkit's short options that take a value. */
static const char with_value[] = "DegiPptuU";

static char *
read_command_line (size_t *len)
{
  CLEANUP_CLOSE int fd = open ("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  char *data = NULL;
  ssize_t n;

  *len = 0;
  if (fd == -1)
    return NULL;
  do {
    char *bigger = realloc (data, *len + 4096 + 1);

    if (bigger == NULL) {
      free (data);
      return NULL;
    }
    data = bigger;
    n = read (fd, data + *len, 4096);
    if (n > 0)
      *len += n;
  } while (n > 0 && *len < COMMAND_LINE_MAX);
  data[*len] = '\0';
  return data;
}

/* The value of -u in a cluster of short options ("-fvuNAME"), "" if it is the
 * next argument, NULL if there is none.  *skip: the next argument is the value
 * of some option.
 */
static const char *
user_in_cluster (const char *arg, bool *skip)
{
  for (const char *p = arg + 1; *p; p++) {
    if (strchr (with_value, *p) == NULL)
      continue;
    *skip = p[1] == '\0';
    return *p == 'u' ? p + 1 : NULL;
  }
  return NULL;
}

/* The same for "--user=NAME" and what getopt takes for it. */
static const char *
user_in_long (const char *arg, bool *skip)
{
  static const char option[] = "--user";
  const size_t len = strcspn (arg, "=");

  /* --u could be --unix as well, so nbdkit refuses it. */
  if (len < 4 || len > strlen (option) || strncmp (arg, option, len) != 0)
    return NULL;
  *skip = arg[len] == '\0';
  return arg[len] == '=' ? arg + len + 1 : arg + len;
}

/* The last -u counts, as in nbdkit. */
static const char *
find_user (const char *args, size_t len)
{
  const char *const end = args + len;
  const char *user = NULL;

  for (const char *p = args; p < end; p += strlen (p) + 1) {
    const char *value = NULL;
    bool skip = false;

    if (strcmp (p, "--") == 0)
      break;
    if (strncmp (p, "--", 2) == 0)
      value = user_in_long (p, &skip);
    else if (p[0] == '-' && p[1] != '\0')
      value = user_in_cluster (p, &skip);
    if (skip && p + strlen (p) + 1 < end) {
      p += strlen (p) + 1;
      if (value)
        value = p;
    }
    if (value)
      user = value;
  }
  return user;
}

uid_t
run_as_user (void)
{
  size_t len;
  CLEANUP_FREE char *args = read_command_line (&len);
  const char *name = args ? find_user (args, len) : NULL;
  const struct passwd *pw;
  unsigned long uid;
  char *end;

  if (name == NULL || geteuid () != 0)
    return geteuid ();
  pw = getpwnam (name);
  if (pw)
    return pw->pw_uid;
  errno = 0;
  uid = strtoul (name, &end, 10);
  if (errno == 0 && end != name && *end == '\0')
    return uid;
  return geteuid (); /* nbdkit itself is going to complain */
}
