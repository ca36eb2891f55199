/* SPDX-License-Identifier: BSD-3-Clause */

/* The checksumming writer, both ends of it.
 *
 *   writer run DIR PAUSE_MS     in the guest: rewrite files, log to stdout
 *   writer check DIR ACKS...    on the host: compare DIR with that log
 *
 * The content of a file follows from its number and a sequence number alone,
 * so the host can tell what a file must hold without ever having seen it.
 * Each line "ACK number sequence checksum" is printed after fsync returned:
 * from then on the disk owes us this version.  Files are rewritten in place,
 * replaced by a rename, or removed and made again, so that the disk sees
 * overwrites, allocations and (mounted with discard) trims.
 *
 * Commands, one per line on stdin, each answered by one line:
 *   VERIFY    drop the caches, read everything back    -> VERIFIED | WRONG
 *   LATENCY   longest write+fsync since the last time  -> LATENCY us count
 *   STOP      as VERIFY, then end
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define FILES 24
#define MAX_SIZE (128 * 1024)

/* Sequence number of each file; 0: not written yet. */
static unsigned versions[FILES];

static unsigned long long longest_us, latency_count;

static uint64_t
mix (uint64_t x)
{
  x = (x ^ (x >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  x = (x ^ (x >> 27)) * UINT64_C (0x94d049bb133111eb);
  return x ^ (x >> 31);
}

static uint64_t
seed_of (unsigned file, unsigned version)
{
  return mix (((uint64_t)version << 32 | file) + UINT64_C (0x9e3779b97f4a7c15));
}

static size_t
make_content (unsigned file, unsigned version, uint64_t *words)
{
  const uint64_t seed = seed_of (file, version);
  const size_t count = (512 + seed % (MAX_SIZE - 512)) / sizeof *words;

  for (size_t i = 0; i < count; i++)
    words[i] = mix (seed + i * UINT64_C (0x9e3779b97f4a7c15));
  return count * sizeof *words;
}

/* FNV-1a, by words. */
static uint64_t
checksum (const uint64_t *words, size_t bytes)
{
  uint64_t sum = UINT64_C (0xcbf29ce484222325);

  for (size_t i = 0; i < bytes / sizeof *words; i++)
    sum = (sum ^ words[i]) * UINT64_C (0x100000001b3);
  return sum;
}

static void
path_of (char *path, size_t size, unsigned file)
{
  snprintf (path, size, "file-%04u", file);
}

/* Whatever fails in the guest is a finding: say it, never hide it. */
__attribute__ ((format (printf, 1, 2), noreturn)) static void
fatal (const char *fmt, ...)
{
  const int err = errno;
  va_list args;

  printf ("WRONG ");
  va_start (args, fmt);
  vprintf (fmt, args);
  va_end (args);
  printf ("%s%s\n", err ? ": " : "", err ? strerror (err) : "");
  exit (1);
}

/* ---- writing ------------------------------------------------------------- */

static void
write_all (const char *path, int flags, const void *content, size_t size)
{
  const int fd = open (path, O_WRONLY | O_CREAT | flags, 0644);

  if (fd == -1)
    fatal ("open %s", path);
  if (pwrite (fd, content, size, 0) != (ssize_t)size)
    fatal ("write %s", path);
  if (ftruncate (fd, size) == -1)
    fatal ("truncate %s", path);
  if (fsync (fd) == -1)
    fatal ("fsync %s", path);
  if (close (fd) == -1)
    fatal ("close %s", path);
}

static void
sync_directory (void)
{
  const int fd = open (".", O_RDONLY | O_DIRECTORY);

  if (fd == -1 || fsync (fd) == -1 || close (fd) == -1)
    fatal ("fsync of the directory");
}

/* One version of one file, in one of three ways. */
static void
store (const char *path, unsigned way, const void *content, size_t size)
{
  switch (way) {
  case 0:
    write_all (path, 0, content, size);
    return;
  case 1:
    write_all ("new", O_TRUNC, content, size);
    if (rename ("new", path) == -1)
      fatal ("rename %s", path);
    break;
  default:
    if (unlink (path) == -1 && errno != ENOENT)
      fatal ("unlink %s", path);
    write_all (path, O_EXCL, content, size);
  }
  sync_directory ();
}

static uint64_t
now_us (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
write_next (unsigned sequence)
{
  static uint64_t words[MAX_SIZE / sizeof (uint64_t)];
  const unsigned file = seed_of (UINT32_MAX, sequence) % FILES;
  const unsigned version = versions[file] + 1;
  const size_t size = make_content (file, version, words);
  const uint64_t begin = now_us ();
  char path[32];

  path_of (path, sizeof path, file);
  store (path, (version + file) % 3, words, size);
  versions[file] = version;

  const uint64_t took = now_us () - begin;
  if (took > longest_us)
    longest_us = took;
  latency_count++;
  printf ("ACK %u %u %016" PRIx64 "\n", file, version, checksum (words, size));
}

/* ---- verifying ----------------------------------------------------------- */

/* Returns NULL if the file holds just that version, else what is wrong. */
static const char *
verify_file (unsigned file, unsigned version)
{
  static uint64_t want[MAX_SIZE / sizeof (uint64_t)];
  static uint64_t have[MAX_SIZE / sizeof (uint64_t) + 1];
  const size_t size = make_content (file, version, want);
  char path[32];

  path_of (path, sizeof path, file);
  const int fd = open (path, O_RDONLY);
  if (fd == -1)
    return strerror (errno);
  const ssize_t n = read (fd, have, sizeof have);
  const char *error = n == -1 ? strerror (errno) : NULL;
  close (fd);
  if (error)
    return error;
  if ((size_t)n != size)
    return "wrong size";
  return memcmp (want, have, size) == 0 ? NULL : "wrong content";
}

static bool
verify_all (void)
{
  bool ok = true;
  unsigned files = 0;

  for (unsigned i = 0; i < FILES; i++) {
    if (versions[i] == 0)
      continue;
    const char *error = verify_file (i, versions[i]);
    files++;
    if (!error)
      continue;
    printf ("WRONG file %u version %u: %s\n", i, versions[i], error);
    ok = false;
  }
  if (ok)
    printf ("VERIFIED %u files\n", files);
  return ok;
}

/* Without this the page cache would be verified and not the disk. */
static void
drop_caches (void)
{
  const int fd = open ("/proc/sys/vm/drop_caches", O_WRONLY);

  sync ();
  if (fd == -1 || write (fd, "3\n", 2) != 2)
    fatal ("drop_caches");
  close (fd);
}

/* ---- the guest's main loop ----------------------------------------------- */

static bool
command (const char *line)
{
  if (strcmp (line, "LATENCY") == 0) {
    printf ("LATENCY %llu %llu\n", longest_us, latency_count);
    longest_us = latency_count = 0;
    return true;
  }
  if (strcmp (line, "VERIFY") == 0 || strcmp (line, "STOP") == 0) {
    drop_caches ();
    if (!verify_all ())
      exit (1);
    return strcmp (line, "STOP") != 0;
  }
  printf ("UNKNOWN %s\n", line);
  return true;
}

/* Waits PAUSE_MS for a command; false when it was STOP. */
static bool
poll_command (int pause_ms)
{
  static char line[80];
  static size_t length;
  struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
  char c;

  while (poll (&fd, 1, pause_ms) == 1 && read (STDIN_FILENO, &c, 1) == 1) {
    if (c != '\n' && length < sizeof line - 1) {
      line[length++] = c;
      continue;
    }
    line[length] = '\0';
    length = 0;
    if (!command (line))
      return false;
  }
  return true;
}

static void
raw_terminal (void)
{
  struct termios t;

  if (tcgetattr (STDIN_FILENO, &t) == -1)
    return;
  cfmakeraw (&t);
  cfsetspeed (&t, B115200);
  tcsetattr (STDIN_FILENO, TCSANOW, &t);
}

static int
run (const char *dir, int pause_ms)
{
  raw_terminal ();
  if (chdir (dir) == -1)
    fatal ("chdir %s", dir);
  printf ("RUNNING\n");
  for (unsigned sequence = 1; poll_command (pause_ms); sequence++)
    write_next (sequence);
  return 0;
}

/* ---- the host's check ---------------------------------------------------- */

/* Keeps the last version of each file.  Returns how many ACKs the line was. */
static unsigned
read_line (const char *log, const char *line)
{
  static uint64_t words[MAX_SIZE / sizeof (uint64_t)];
  unsigned file, version;
  uint64_t sum;

  if (sscanf (line, "ACK %u %u %" SCNx64, &file, &version, &sum) != 3)
    return 0;
  errno = 0;
  if (file >= FILES || version != versions[file] + 1)
    fatal ("%s: unexpected line: %s", log, line);
  const size_t size = make_content (file, version, words);
  if (checksum (words, size) != sum)
    fatal ("%s: wrong checksum: %s", log, line);
  versions[file] = version;
  return 1;
}

/* A guest that moved left one log on each host, given here in that order. Where
 * it moved in the midst of a line, the second log begins with the line's end.
 */
static unsigned
read_acks (const char *log)
{
  static char line[256];
  static size_t length; /* of what is there without its newline */
  FILE *fp = fopen (log, "r");
  unsigned acks = 0;

  if (!fp)
    fatal ("open %s", log);
  while (fgets (line + length, (int)(sizeof line - length), fp)) {
    length = strlen (line);
    if (length < sizeof line - 1 && line[length - 1] != '\n')
      continue; /* the log's last line */
    acks += read_line (log, line);
    length = 0;
  }
  fclose (fp);
  return acks;
}

static int
check (const char *dir, char *logs[])
{
  unsigned acks = 0;

  for (; *logs; logs++)
    acks += read_acks (*logs);
  if (chdir (dir) == -1)
    fatal ("chdir %s", dir);
  if (acks == 0) {
    printf ("WRONG: no ACK in the log\n");
    return 1;
  }
  printf ("%u writes acknowledged\n", acks);
  return verify_all () ? 0 : 1;
}

int
main (int argc, char *argv[])
{
  setvbuf (stdout, NULL, _IOLBF, 0);
  if (argc == 4 && strcmp (argv[1], "run") == 0)
    return run (argv[2], atoi (argv[3]));
  if (argc >= 4 && strcmp (argv[1], "check") == 0)
    return check (argv[2], argv + 3);
  fprintf (stderr, "usage: writer run DIR PAUSE_MS | check DIR ACKS...\n");
  return 2;
}
