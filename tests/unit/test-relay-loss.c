/* SPDX-License-Identifier: BSD-3-Clause */
/* timeout: 180
 *
 * A destination that is lost and comes back (R13, R17; rows 8 to 10 of the
 * fault table): no acknowledged write is lost although the destination forgets
 * what was not flushed, and where that cannot be had, the guest hears of it.
 */

#include <sched.h>

#include <libnbd.h>

#include "relay-worker.h"

/* Kills leave nothing that could land late: no need to wait for it. */
#define NO_GRACE_MS 10

static struct relay_options
new_options (void)
{
  struct relay_options o = default_options (DISK_BYTES);

  o.log_bytes = 1024 * 1024;
  o.grace_ms = NO_GRACE_MS;
  return o;
}

static struct relay *
open_relay (const struct server *s, const struct relay_options *o)
{
  char *why;
  struct relay *r = relay_open (s->uri, o, NULL, &why);

  if (r == NULL)
    printf ("(%s) ", why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  return r;
}

static void
wait_until_up (struct relay *r, bool up)
{
  unsigned tries = SERVER_TRIES;

  while (status_of (r).up != up && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

static void
wait_until_lost (struct relay *r, uint64_t losses)
{
  unsigned tries = SERVER_TRIES;

  while (status_of (r).losses < losses && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

static void
wait_until_not_late (struct relay *r)
{
  unsigned tries = SERVER_TRIES;

  while (relay_late_ms (r) > 0 && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

/* ---- Lost again and again under load ----------------------------------- */

/* Each element of 'args' is one life of the server; 'sig' ends it. */
static void
run_lives (const char *const *args, int sig)
{
  struct relay_options o = new_options ();
  struct workers w;
  struct server s;
  struct relay *r;

  workers_init (&w);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, *args);
  r = open_relay (&s, &o);
  workers_start (&w, r, UINT32_MAX);
  while (*++args != NULL) {
    workers_advance (&w, 30);
    server_stop (&s, sig);
    server_start (&s, *args);
  }
  workers_advance (&w, 30);
  workers_join (&w, true);

  /* What is not flushed is lost once more. */
  server_stop (&s, SIGKILL);
  server_start (&s, args[-1]);
  workers_check (&w, r);
  CU_ASSERT (status_of (r).replayed_writes > 0);
  CU_ASSERT_EQUAL (status_of (r).errors, 0);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
  server_stop (&s, SIGKILL);
  workers_check_file (&w, &s);
  relay_close (r);
  server_destroy (&s);
  workers_destroy (&w);
}

static void
test_killed (void)
{
  static const char *const lives[] = {
    "",
    "writeback=30 seed=1",
    "writeback=60 seed=2",
    "writeback=10 seed=3",
    "",
    "writeback=50 seed=4",
    NULL,
  };

  run_lives (lives, SIGKILL);
}

static void
test_killed_with_blocks (void)
{
  static const char *const lives[] = {
    "minimum=4096 maximum=8192",
    "minimum=4096 maximum=8192 writeback=30",
    "minimum=4096 maximum=8192 writeback=30 multi-conn=0",
    "minimum=4096 maximum=8192",
    NULL,
  };

  run_lives (lives, SIGKILL);
}

/* It comes back offering less, or more.  (Never trim: what is trimmed may read
 * differently after each replay.)
 */
static void
test_changes (void)
{
  static const char *const lives[] = {
    "minimum=4096 maximum=65536 trim=0",
    "minimum=4096 maximum=4096 trim=0 fua=0 --filter=nozero",
    "minimum=512 trim=0 multi-conn=0 --no-sr cache=0",
    "minimum=512 trim=0 maximum=16384 writeback=20 fua=0",
    "trim=0",
    "trim=0 --filter=nozero maximum=32768",
    NULL,
  };

  run_lives (lives, SIGKILL);
}

/* Stopped politely: it answers what it has with "shutting down". */
static void
test_terminated (void)
{
  static const char *const lives[] = { "", "", "", NULL };

  run_lives (lives, SIGTERM);
}

/* ---- The log ----------------------------------------------------------- */

static void
test_own_flush (void)
{
  struct relay_options o = new_options ();
  uint8_t block[16384], back[16384];
  struct server s;
  struct relay *r;

  o.log_bytes = 256 * 1024;
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  for (unsigned i = 0; i < 256; ++i) {
    memset (block, i, sizeof block);
    CU_ASSERT_EQUAL (
      relay_write (r, block, sizeof block, i % 32 * sizeof block, 0, NULL), 0);
    CU_ASSERT (status_of (r).log_used_bytes <= o.log_bytes);
  }
  CU_ASSERT (status_of (r).own_flushes > 0);
  server_stop (&s, SIGKILL);
  server_start (&s, NULL);
  for (unsigned i = 224; i < 256; ++i) {
    memset (block, i, sizeof block);
    CU_ASSERT_EQUAL (
      relay_read (r, back, sizeof back, i % 32 * sizeof block, NULL), 0);
    CU_ASSERT_EQUAL (memcmp (back, block, sizeof block), 0);
  }
  relay_close (r);
  server_destroy (&s);
}

/* A write too large for the log, over an older one that is in the log. */
static void
test_large_write (void)
{
  struct relay_options o = new_options ();
  uint8_t *block = malloc (FILE_BYTES / 2), *file = malloc (FILE_BYTES);
  struct server s;
  struct relay *r;

  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  memset (block, 1, FILE_BYTES / 2);
  CU_ASSERT_EQUAL (relay_write (r, block, 4096, 8192, 0, NULL), 0);
  memset (block, 2, FILE_BYTES / 2);
  CU_ASSERT_EQUAL (relay_write (r, block, FILE_BYTES / 2, 0, 0, NULL), 0);
  server_stop (&s, SIGKILL);
  server_read_file (&s, file, FILE_BYTES);
  CU_ASSERT_EQUAL (memcmp (file, block, FILE_BYTES / 2), 0);
  server_start (&s, NULL);
  CU_ASSERT_EQUAL (relay_read (r, file, FILE_BYTES / 2, 0, NULL), 0);
  CU_ASSERT_EQUAL (memcmp (file, block, FILE_BYTES / 2), 0);
  relay_close (r);
  server_destroy (&s);
  free (block);
  free (file);
}

/* It is refused, and what was below it is sent again. */
static void
test_large_write_refused (void)
{
  struct relay_options o = new_options ();
  uint8_t *block = malloc (FILE_BYTES / 2);
  struct server s;
  struct relay *r;

  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, "refuse-writes=1");
  r = open_relay (&s, &o);
  memset (block, 2, FILE_BYTES / 2);
  errno = 0;
  CU_ASSERT_EQUAL (relay_write (r, block, FILE_BYTES / 2, 0, 0, NULL), -1);
  CU_ASSERT_EQUAL (errno, ENOSPC);
  relay_close (r);
  server_destroy (&s);
  free (block);
}

/* Destination durability as the guest asked for it: FUA, and a FUA write over
 * an older one that is not flushed.
 */
static void
test_fua (void)
{
  static const char *const args[] = { "", "fua=0" };
  struct relay_options o = new_options ();
  uint8_t old[8192], new[4096], file[8192];

  memset (old, 1, sizeof old);
  memset (new, 2, sizeof new);
  for (unsigned i = 0; i < 2; ++i) {
    struct server s;
    struct relay *r;

    server_init (&s, FILE_BYTES, FILL);
    server_start (&s, args[i]);
    r = open_relay (&s, &o);
    CU_ASSERT_EQUAL (relay_write (r, old, sizeof old, 0, 0, NULL), 0);
    CU_ASSERT_EQUAL (relay_write (r, new, sizeof new, 0, RELAY_FUA, NULL), 0);
    server_stop (&s, SIGKILL);
    server_read_file (&s, file, sizeof file);
    CU_ASSERT_EQUAL (memcmp (file, new, sizeof new), 0);
    server_start (&s, args[i]);
    CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
    server_stop (&s, SIGKILL);
    server_read_file (&s, file, sizeof file);
    CU_ASSERT_EQUAL (memcmp (file, new, sizeof new), 0);
    CU_ASSERT_EQUAL (memcmp (file + 4096, old + 4096, 4096), 0);
    relay_close (r);
    server_destroy (&s);
  }
}

/* A proxy that stops leaves nothing unflushed behind. */
static void
test_flush_at_close (void)
{
  struct relay_options o = new_options ();
  uint8_t block[4096], file[4096];
  struct server s;
  struct relay *r;

  memset (block, 7, sizeof block);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  relay_close (r);
  server_stop (&s, SIGKILL);
  server_read_file (&s, file, sizeof file);
  CU_ASSERT_EQUAL (memcmp (file, block, sizeof block), 0);
  server_destroy (&s);
}

/* ---- Lies that must not be told ---------------------------------------- */

static void
expect_flush (struct relay *r, uint64_t *seen, int error)
{
  int result = relay_flush (r, seen, NULL) == 0 ? 0 : errno;

  if (result == 0 && seen != NULL && owed_error_tell (&owed, seen))
    result = EIO;
  if (result != 0 && seen != NULL)
    owed_error_heard (&owed, *seen);
  CU_ASSERT_EQUAL (result, error);
}

/* The writes cannot be repeated: the next flush of each guest connection
 * fails, once.
 */
static void
test_replay_refused (void)
{
  struct relay_options o = new_options ();
  uint64_t one = 0, two = 0, later;
  uint8_t block[4096];
  struct server s;
  struct relay *r;

  memset (block, 1, sizeof block);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  expect_flush (r, &one, 0);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  server_stop (&s, SIGKILL);
  server_start (&s, "refuse-writes=1");
  wait_until_lost (r, 1);
  wait_until_up (r, true);
  expect_flush (r, &one, EIO);
  expect_flush (r, &one, 0);
  expect_flush (r, &two, EIO);
  expect_flush (r, &two, 0);
  later = owed_error_seen (&owed);
  expect_flush (r, &later, 0);
  relay_close (r);
  server_destroy (&s);
}

/* A flush fails: it, and the next one of the other guest connections. */
static void
test_flush_refused (void)
{
  struct relay_options o = new_options ();
  uint64_t one = 0, two = 0;
  uint8_t block[65536];
  struct server s;
  struct relay *r;

  o.log_bytes = 256 * 1024;
  memset (block, 1, sizeof block);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, "refuse-flush=1");
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, 4096, 0, 0, NULL), 0);
  expect_flush (r, &one, EIO);
  CU_ASSERT_EQUAL (owed_error_count (&owed), 1);
  CU_ASSERT_EQUAL (one, 1);
  CU_ASSERT_EQUAL (two, 0);

  /* The relay's own flushes fail, too: writes go on, flushes tell. */
  for (unsigned i = 0; i < 16; ++i)
    CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  CU_ASSERT (owed_error_count (&owed) > 1);
  server_stop (&s, SIGKILL);
  server_start (&s, NULL);
  wait_until_lost (r, 1);
  wait_until_up (r, true);
  expect_flush (r, &one, EIO);
  expect_flush (r, &two, EIO);
  expect_flush (r, &one, 0);
  expect_flush (r, &two, 0);
  relay_close (r);
  server_destroy (&s);
}

/* ---- What it must hold when it comes back ------------------------------- */

static void
expect_byte (struct relay *r, uint8_t byte)
{
  uint8_t block[4096];

  CU_ASSERT_EQUAL (relay_read (r, block, sizeof block, 0, NULL), 0);
  CU_ASSERT_EQUAL (block[0], byte);
}

static void
kill_and_start (struct server *s, struct relay *r, const char *args)
{
  const uint64_t losses = status_of (r).losses;

  server_stop (s, SIGKILL);
  server_start (s, args);
  wait_until_lost (r, losses + 1);
  wait_until_up (r, true);
}

/* A flush has failed: what can be read still may be gone when the server is. */
static void
test_read_after_failed_flush (void)
{
  struct relay_options o = new_options ();
  uint8_t block[4096];
  struct server s;
  struct relay *r;

  memset (block, 1, sizeof block);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, "fail-flush=1");
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  expect_flush (r, NULL, EIO);
  expect_byte (r, 1);
  kill_and_start (&s, r, NULL);
  expect_byte (r, FILL);
  relay_close (r);
  server_destroy (&s);
}

/* Somebody else writes to the disk while it is not the guest's. */
static void
test_written_by_others (void)
{
  struct relay_options o = new_options ();
  uint8_t block[4096];
  struct server s;
  struct relay *r, *other;

  memset (block, 1, sizeof block);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  expect_byte (r, FILL);
  relay_set_owner (r, false);
  expect_byte (r, FILL);
  other = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (other, block, sizeof block, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_flush (other, NULL, NULL), 0);
  relay_close (other);
  relay_set_owner (r, true);
  kill_and_start (&s, r, NULL);
  expect_byte (r, 1);
  relay_close (r);
  server_destroy (&s);
}

static void
note_stranger (void *opaque, bool good, const char *text)
{
  if (!good && strstr (text, "does not hold what was flushed"))
    __atomic_store_n ((bool *)opaque, true, __ATOMIC_SEQ_CST);
}

/* As a proxy that was killed leaves it: in the server's memory only. */
static void
write_unflushed (const struct server *s, uint8_t byte)
{
  struct nbd_handle *nbd = nbd_create ();
  uint8_t block[4096];

  memset (block, byte, sizeof block);
  CU_ASSERT_EQUAL (nbd_connect_uri (nbd, s->uri), 0);
  CU_ASSERT_EQUAL (nbd_pwrite (nbd, block, sizeof block, 0, 0), 0);
  nbd_close (nbd);
}

/* What another process has written and nobody flushed can be read, and may be
 * gone when the server is; what was read after a flush may not.
 */
static void
test_read_after_takeover (void)
{
  struct relay_options o = new_options ();
  bool is_stranger = false;
  unsigned tries = SERVER_TRIES;
  struct server s;
  struct relay *r;

  o.takes_over = true;
  o.notice = note_stranger;
  o.opaque = &is_stranger;
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  write_unflushed (&s, 1);
  r = open_relay (&s, &o);
  wait_until_not_late (r);
  expect_byte (r, 1);
  kill_and_start (&s, r, NULL);
  expect_byte (r, FILL);

  wait_until_not_late (r);
  expect_flush (r, NULL, 0);
  expect_byte (r, FILL);
  server_stop (&s, SIGKILL);
  CU_ASSERT_EQUAL (truncate (s.file, 0), 0);
  CU_ASSERT_EQUAL (truncate (s.file, FILE_BYTES), 0);
  server_start (&s, NULL);
  while (!__atomic_load_n (&is_stranger, __ATOMIC_SEQ_CST) && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
  relay_close (r);
  server_destroy (&s);
}

static void
note_unknown (void *opaque, bool good, const char *text)
{
  if (!good &&
      strstr (text, "pieces that are remembered 0 could be read: Input/"))
    __atomic_store_n ((bool *)opaque, true, __ATOMIC_SEQ_CST);
}

static bool
file_is_zero (const struct server *s)
{
  uint8_t file[FILE_BYTES];

  server_read_file (s, file, sizeof file);
  return file[0] == 0 && memcmp (file, file + 1, sizeof file - 1) == 0;
}

static void
wait_until_set (const bool *flag)
{
  unsigned tries = SERVER_TRIES;

  while (!__atomic_load_n (flag, __ATOMIC_SEQ_CST) && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

/* Some pieces are flushed, one write is not. */
static void
write_pieces (struct relay *r)
{
  uint8_t block[4096];

  for (unsigned i = 0; i <= 16; ++i) {
    if (i == 16)
      expect_flush (r, NULL, 0);
    memset (block, i + 1, sizeof block);
    CU_ASSERT_EQUAL (
      relay_write (r, block, sizeof block, i * sizeof block, 0, NULL), 0);
  }
}

static uint8_t *
take_away (const struct server *s)
{
  uint8_t *image = malloc (FILE_BYTES);

  server_read_file (s, image, FILE_BYTES);
  CU_ASSERT_EQUAL (truncate (s->file, 0), 0);
  CU_ASSERT_EQUAL (truncate (s->file, FILE_BYTES), 0);
  return image;
}

static void
bring_back (const struct server *s, uint8_t *image)
{
  const int fd = open (s->file, O_WRONLY | O_CLOEXEC);

  CU_ASSERT_EQUAL (write (fd, image, FILE_BYTES), FILE_BYTES);
  close (fd);
  free (image);
}

/* An empty disk in its place whose reads fail, and that is gone in the midst of
 * them: neither is taken for the disk.  Nor is the disk itself before it can be
 * read.
 */
static void
test_not_read (void)
{
  struct relay_options o = new_options ();
  char fails[128], hangs[256], log[64], broken[64];
  bool is_unknown = false;
  struct server s;
  struct relay *r;
  uint8_t *image;

  o.notice = note_unknown;
  o.opaque = &is_unknown;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (log, sizeof log, "%.40s/log", s.dir);
  snprintf (broken, sizeof broken, "%.40s/broken", s.dir);
  snprintf (fails, sizeof fails,
            "--filter=error error-pread-rate=100%% error-file=%s", broken);
  snprintf (hangs, sizeof hangs,
            "--filter=log logfile=%s --filter=delay rdelay=3600", log);
  close (open (broken, O_WRONLY | O_CREAT, 0600));
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  write_pieces (r);
  server_stop (&s, SIGKILL);
  wait_until_lost (r, 1);
  image = take_away (&s);

  server_start (&s, fails);
  wait_until_set (&is_unknown);
  CU_ASSERT_FALSE (status_of (r).up);
  server_stop (&s, SIGKILL);
  CU_ASSERT (file_is_zero (&s));

  server_start (&s, hangs);
  wait_until_logged (log, " Read ", 1);
  server_stop (&s, SIGKILL);
  CU_ASSERT (file_is_zero (&s));

  bring_back (&s, image);
  server_start (&s, fails);
  CU_ASSERT_FALSE (status_of (r).up);
  unlink (broken);
  wait_until_up (r, true);
  expect_byte (r, 1);
  CU_ASSERT_EQUAL (status_of (r).replayed_writes, 1);
  relay_close (r);
  unlink (log);
  server_destroy (&s);
}

/* Another disk is known also where no piece of it is a block of its own. */
static void
test_large_blocks (void)
{
  struct relay_options o = new_options ();
  bool is_stranger = false;
  uint8_t piece[700], *image;
  struct server s;
  struct relay *r;

  o.notice = note_stranger;
  o.opaque = &is_stranger;
  memset (piece, 5, sizeof piece);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, "minimum=4096");
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, piece, sizeof piece, 4000, 0, NULL), 0);
  expect_flush (r, NULL, 0);
  server_stop (&s, SIGKILL);
  wait_until_lost (r, 1);
  image = take_away (&s);

  server_start (&s, "minimum=4096");
  wait_until_set (&is_stranger);
  CU_ASSERT_FALSE (status_of (r).up);
  server_stop (&s, SIGKILL);
  bring_back (&s, image);
  server_start (&s, "minimum=4096");
  wait_until_up (r, true);
  relay_close (r);
  server_destroy (&s);
}

/* And where a piece was read across the blocks, and the server gives one at a
 * time.
 */
static void
test_across_blocks (void)
{
  static const char args[] = "minimum=4096 maximum=4096";
  struct relay_options o = new_options ();
  bool is_stranger = false;
  uint8_t piece[512], *image;
  struct server s;
  struct relay *r;

  o.notice = note_stranger;
  o.opaque = &is_stranger;
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, args);
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_read (r, piece, sizeof piece, 4000, NULL), 0);
  server_stop (&s, SIGKILL);
  wait_until_lost (r, 1);
  image = take_away (&s);

  server_start (&s, args);
  wait_until_set (&is_stranger);
  CU_ASSERT_FALSE (status_of (r).up);
  server_stop (&s, SIGKILL);
  bring_back (&s, image);
  server_start (&s, args);
  wait_until_up (r, true);
  relay_close (r);
  server_destroy (&s);
}

static void
count_strangers (void *opaque, bool good, const char *text)
{
  if (!good && strstr (text, "(at offset"))
    __atomic_fetch_add ((unsigned *)opaque, 1, __ATOMIC_SEQ_CST);
}

static void
wait_until_said (const unsigned *count, unsigned n)
{
  unsigned tries = SERVER_TRIES;

  while (__atomic_load_n (count, __ATOMIC_SEQ_CST) < n && --tries > 0)
    server_pause ();
  CU_ASSERT_EQUAL (__atomic_load_n (count, __ATOMIC_SEQ_CST), n);
}

/* Another disk is behind the address while connections to the right one live:
 * that is said, and once more when those are gone.
 */
static void
test_two_behind_an_address (void)
{
  struct relay_options o = new_options ();
  unsigned strangers = 0;
  struct server s, other;
  struct relay *r;
  int fd;

  o.connections = 2;
  o.notice = count_strangers;
  o.opaque = &strangers;
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  write_pieces (r);
  expect_flush (r, NULL, 0);
  wait_until_connections (r, 2);

  other = s;
  snprintf (other.file, sizeof other.file, "%.40s/other", s.dir);
  close (open (other.file, O_WRONLY | O_CREAT, 0600));
  CU_ASSERT_EQUAL (truncate (other.file, FILE_BYTES), 0);
  server_start (&other, NULL);
  CU_ASSERT_EQUAL (relay_sockets (r, &fd, 1), 1);
  shutdown (fd, SHUT_RDWR);
  close (fd);
  wait_until_said (&strangers, 1);
  CU_ASSERT (status_of (r).up);

  server_stop (&s, SIGKILL);
  wait_until_said (&strangers, 2);
  CU_ASSERT_FALSE (status_of (r).up);
  relay_close (r);
  server_stop (&other, SIGKILL);
  unlink (other.file);
  server_destroy (&s);
}

static unsigned
count_writes (const char *log)
{
  char line[512];
  FILE *file = fopen (log, "r");
  unsigned n = 0;

  CU_ASSERT_PTR_NOT_NULL_FATAL (file);
  while (fgets (line, sizeof line, file) != NULL)
    n += strstr (line, " Write id=") != NULL && strstr (line, "count=") != NULL;
  fclose (file);
  return n;
}

/* ---- A replay that is lost on the way --------------------------------------
 */

#define HOUR_MS (3600 * 1000)

struct interrupted {
  struct relay_options options;
  struct server server;
  struct relay *relay;
  char log[64], cue[64];
};

/* The log's second record was sent again, and the server was gone before it had
 * answered that one.  It takes an hour, or as long as said, until that cannot
 * land any more.
 */
static void
begin_interrupted (struct interrupted *t, bool newer, unsigned grace_ms)
{
  struct server *s = &t->server;
  uint8_t block[4096];
  char args[256];

  t->options = new_options ();
  t->options.grace_ms = grace_ms;
  server_init (s, FILE_BYTES, FILL);
  snprintf (t->log, sizeof t->log, "%.40s/log", s->dir);
  snprintf (t->cue, sizeof t->cue, "%.40s/cue", s->dir);
  snprintf (args, sizeof args, "--filter=log logfile=%s dawdle=%s", t->log,
            t->cue);
  server_start (s, NULL);
  t->relay = open_relay (s, &t->options);
  memset (block, 'R', sizeof block);
  CU_ASSERT_EQUAL (relay_write (t->relay, block, sizeof block, 8192, 0, NULL),
                   0);
  memset (block, 'S', sizeof block);
  CU_ASSERT_EQUAL (relay_write (t->relay, block, sizeof block, 0, 0, NULL), 0);
  if (newer) {
    memset (block, 'T', sizeof block);
    CU_ASSERT_EQUAL (relay_write (t->relay, block, sizeof block, 0, 0, NULL),
                     0);
  }
  server_stop (s, SIGKILL);
  wait_until_lost (t->relay, 1);
  server_start (s, args);
  wait_until_logged (t->log, " Write id=2 ", 1);
  server_stop (s, SIGKILL);
  unlink (t->log);
}

static void
end_interrupted (struct interrupted *t)
{
  relay_close (t->relay);
  unlink (t->log);
  unlink (t->cue);
  server_destroy (&t->server);
}

static void
add_unknown (void *opaque, uint64_t offset, uint64_t length, int64_t left_ms)
{
  uint64_t *bytes = opaque;

  (void)left_ms;
  CU_ASSERT (offset + length <= 12288);
  *bytes += length;
}

/* Only writes to that place wait. */
static void
test_interrupted_replay (void)
{
  struct interrupted t;
  uint8_t block[4096];
  uint64_t bytes = 0;

  begin_interrupted (&t, false, HOUR_MS);
  server_start (&t.server, NULL);
  wait_until_up (t.relay, true);
  expect_byte (t.relay, 'S');
  memset (block, 'U', sizeof block);
  CU_ASSERT_EQUAL (relay_write (t.relay, block, sizeof block, 65536, 0, NULL),
                   0);
  expect_flush (t.relay, NULL, 0);
  relay_unknown (t.relay, add_unknown, &bytes);
  CU_ASSERT (bytes >= 4096);
  end_interrupted (&t);
}

/* A newer one in the log is not sent again before the older cannot land. */
static void
test_interrupted_and_newer (void)
{
  struct interrupted t;
  char args[160];

  begin_interrupted (&t, true, HOUR_MS);
  /* Lost again, before that is waited for. */
  snprintf (args, sizeof args, "--filter=log logfile=%s dawdle=%s", t.log,
            t.cue);
  server_start (&t.server, args);
  wait_until_logged (t.log, " Write id=2 ", 1);
  server_stop (&t.server, SIGKILL);
  unlink (t.log);
  snprintf (args, sizeof args, "--filter=log logfile=%s", t.log);
  for (unsigned i = 0; i < 2; ++i) { /* lost again while that is waited for */
    server_start (&t.server, args);
    wait_until_logged (t.log, " Flush ", 1);
    CU_ASSERT_FALSE (status_of (t.relay).up);
    CU_ASSERT_EQUAL (count_writes (t.log), 2);
    if (i == 0)
      server_stop (&t.server, SIGKILL);
    unlink (t.log);
  }
  end_interrupted (&t);

  begin_interrupted (&t, true, 300);
  server_start (&t.server, NULL);
  wait_until_up (t.relay, true);
  expect_byte (t.relay, 'T');
  expect_flush (t.relay, NULL, 0);
  server_stop (&t.server, SIGKILL);
  server_start (&t.server, NULL);
  expect_byte (t.relay, 'T');
  end_interrupted (&t);
}

/* ---- Records that need several commands ---------------------------------- */

struct alone {
  struct server server;
  struct relay *relay;
};

/* One record in the log, and the destination is away. */
static void
begin_alone (struct alone *t, void (*act) (struct relay *r))
{
  struct relay_options o = new_options ();

  server_init (&t->server, FILE_BYTES, FILL);
  server_start (&t->server, NULL);
  t->relay = open_relay (&t->server, &o);
  act (t->relay);
  server_stop (&t->server, SIGKILL);
  wait_until_lost (t->relay, 1);
}

static void
end_alone (struct alone *t)
{
  relay_close (t->relay);
  server_destroy (&t->server);
}

static void
write_slow (struct relay *r)
{
  uint8_t block[16384];

  memset (block, 'S', sizeof block);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
}

static void
zero_some (struct relay *r)
{
  CU_ASSERT_EQUAL (relay_zero (r, 16384, 0, RELAY_NO_HOLE, NULL), 0);
}

static void
trim_some (struct relay *r)
{
  CU_ASSERT_EQUAL (relay_trim (r, 16384, 0, 0, NULL), 0);
}

/* It is lost in the midst of one, and it goes on from the beginning. */
static void
test_alone_lost (void)
{
  char args[256], cue[64], log[64];
  struct alone t;

  begin_alone (&t, write_slow);
  snprintf (cue, sizeof cue, "%.40s/cue", t.server.dir);
  snprintf (log, sizeof log, "%.40s/log", t.server.dir);
  snprintf (args, sizeof args, "--filter=log logfile=%s dawdle=%s maximum=4096",
            log, cue);
  server_start (&t.server, args);
  wait_until_logged (log, " Write id=1 ", 1);
  server_stop (&t.server, SIGKILL);
  server_start (&t.server, "maximum=4096");
  wait_until_up (t.relay, true);
  expect_byte (t.relay, 'S');
  expect_flush (t.relay, NULL, 0);
  unlink (log);
  end_alone (&t);
}

static void
write_slow_and_more (struct relay *r)
{
  uint8_t block[16384];

  memset (block, 'S', sizeof block);
  CU_ASSERT_EQUAL (relay_write (r, block, 4096, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 65536, 0, NULL), 0);
}

/* What goes before it is lost. */
static void
test_alone_after_lost (void)
{
  char args[256], cue[64], log[64];
  struct alone t;

  begin_alone (&t, write_slow_and_more);
  snprintf (cue, sizeof cue, "%.40s/cue", t.server.dir);
  snprintf (log, sizeof log, "%.40s/log", t.server.dir);
  snprintf (args, sizeof args, "--filter=log logfile=%s dawdle=%s maximum=4096",
            log, cue);
  server_start (&t.server, args);
  wait_until_logged (log, " Write id=1 ", 1);
  CU_ASSERT_EQUAL (count_writes (log), 1);
  server_stop (&t.server, SIGKILL);
  server_start (&t.server, "maximum=4096");
  wait_until_up (t.relay, true);
  expect_byte (t.relay, 'S');
  expect_flush (t.relay, NULL, 0);
  unlink (log);
  end_alone (&t);
}

static void
zero_and_trim_much (struct relay *r)
{
  CU_ASSERT_EQUAL (relay_zero (r, 524288, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_trim (r, 262144, 524288, 0, NULL), 0);
}

/* Zeroes and trims go in pieces, as they went before. */
static void
test_alone_pieces (void)
{
  struct alone t;

  begin_alone (&t, zero_and_trim_much);
  server_start (&t.server, NULL);
  wait_until_up (t.relay, true);
  CU_ASSERT_EQUAL (status_of (t.relay).errors, 0);
  expect_byte (t.relay, 0);
  expect_flush (t.relay, NULL, 0);
  end_alone (&t);
}

/* What comes back has no zeroes, and takes none; or does not trim. */
static void
test_alone_refused (void)
{
  struct alone t;

  begin_alone (&t, zero_some);
  server_start (&t.server, "--filter=nozero refuse-writes=1");
  wait_until_up (t.relay, true);
  CU_ASSERT_EQUAL (status_of (t.relay).errors, 1);
  end_alone (&t);

  begin_alone (&t, zero_some);
  server_start (&t.server, "--filter=nozero");
  wait_until_up (t.relay, true);
  CU_ASSERT_EQUAL (status_of (t.relay).errors, 0);
  expect_byte (t.relay, 0);
  end_alone (&t);

  begin_alone (&t, trim_some);
  server_start (&t.server, "trim=0");
  wait_until_up (t.relay, true);
  CU_ASSERT_EQUAL (status_of (t.relay).errors, 0);
  expect_flush (t.relay, NULL, 0);
  end_alone (&t);
}

/* ---- Away for too long ------------------------------------------------- */

static void
test_away (void)
{
  struct relay_options o = new_options ();
  uint8_t block[4096], back[4096];
  struct server s;
  struct relay *r;

  o.reconnect_ms = 300;
  memset (block, 5, sizeof block);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  CU_ASSERT_FALSE (status_of (r).failing);
  server_stop (&s, SIGKILL);
  expect_flush (r, NULL, EIO);
  CU_ASSERT_TRUE (status_of (r).failing);
  errno = 0;
  CU_ASSERT_EQUAL (relay_read (r, back, sizeof back, 0, NULL), -1);
  CU_ASSERT_EQUAL (errno, EIO);
  CU_ASSERT_EQUAL (relay_write (r, back, sizeof back, 4096, 0, NULL), -1);

  /* Back: the unflushed write is there, and the flush is no lie. */
  server_start (&s, NULL);
  wait_until_up (r, true);
  CU_ASSERT_FALSE (status_of (r).failing);
  expect_flush (r, NULL, 0);
  server_stop (&s, SIGKILL);
  server_read_file (&s, back, sizeof back);
  CU_ASSERT_EQUAL (memcmp (back, block, sizeof block), 0);
  relay_close (r);
  server_destroy (&s);
}

/* A destination that became unfit is not used. */
static void
test_unfit (void)
{
  struct relay_options o = new_options ();
  uint8_t block[4096] = { 1 };
  struct server s;
  struct relay *r;

  o.reconnect_ms = 300;
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, "minimum=512");
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  server_stop (&s, SIGKILL);
  server_start (&s, "minimum=4096");
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), -1);
  CU_ASSERT_EQUAL (errno, EIO);
  server_stop (&s, SIGKILL);
  server_start (&s, "-r");
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), -1);
  server_stop (&s, SIGKILL);
  server_start (&s, "minimum=1");
  wait_until_up (r, true);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 1, 0, NULL), 0);
  relay_close (r);
  server_destroy (&s);
}

/* ---- Late -------------------------------------------------------------- */

struct one_write {
  struct relay *relay;
  uint8_t first; /* byte */
  int result;
};

static void *
write_one (void *opaque)
{
  struct one_write *one = opaque;
  uint8_t block[4096];

  memset (block, one->first, sizeof block);
  __atomic_store_n (&one->result,
                    relay_write (one->relay, block, sizeof block, 0, 0, NULL),
                    __ATOMIC_SEQ_CST);
  return NULL;
}

static void
wait_until_late (struct relay *r, int64_t ms)
{
  unsigned tries = SERVER_TRIES;

  while (status_of (r).oldest_request_ms < ms && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

static void
wait_for_file (const char *path)
{
  unsigned tries = SERVER_TRIES;

  while (access (path, F_OK) == -1 && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

static bool
is_older (const struct relay_status *st, int64_t ms)
{
  return st->oldest_request_ms >= ms;
}

/* R17: a write takes long.  It is waited for, and so is its answer by a newer
 * write to the same place and by a read of it; everything else goes on.  Were
 * it sent again and acknowledged, the slow one would land over the newer one.
 */
static void
run_slow_write (const char *more_args)
{
  struct relay_options o = new_options ();
  char args[128], permission[64], done[80];
  uint8_t block[4096] = { 'o' }, back[4096];
  struct one_write one, two;
  pthread_t first, second;
  struct server s;
  struct relay_status st;

  o.silent_ms = 100;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (done, sizeof done, "%s.done", permission);
  snprintf (args, sizeof args, "dawdle=%s %s", permission, more_args);
  server_start (&s, args);
  one = (struct one_write){ open_relay (&s, &o), 'S', -1 };
  two = (struct one_write){ one.relay, 'T', -1 };

  pthread_create (&first, NULL, write_one, &one);
  wait_until_late (one.relay, 3 * o.silent_ms);

  /* Elsewhere it reads and writes, once it has shown that it lives. */
  for (unsigned i = 1; i < 20; ++i) {
    CU_ASSERT_EQUAL (
      relay_write (one.relay, block, sizeof block, i * 8192, 0, NULL), 0);
    CU_ASSERT_EQUAL (relay_read (one.relay, back, sizeof back, i * 8192, NULL),
                     0);
    CU_ASSERT_EQUAL (memcmp (block, back, sizeof block), 0);
  }
  pthread_create (&second, NULL, write_one, &two);
  CU_ASSERT_EQUAL (relay_flush (one.relay, NULL, NULL), 0);
  st = status_of (one.relay);
  CU_ASSERT_EQUAL (st.losses, 0);
  CU_ASSERT (is_older (&st, 3 * o.silent_ms));
  CU_ASSERT_EQUAL (__atomic_load_n (&one.result, __ATOMIC_SEQ_CST), -1);
  CU_ASSERT_EQUAL (__atomic_load_n (&two.result, __ATOMIC_SEQ_CST), -1);

  close (open (permission, O_WRONLY | O_CREAT, 0600));
  pthread_join (first, NULL);
  pthread_join (second, NULL);
  CU_ASSERT_EQUAL (one.result, 0);
  CU_ASSERT_EQUAL (two.result, 0);
  wait_for_file (done);
  CU_ASSERT_EQUAL (relay_read (one.relay, back, 1, 0, NULL), 0);
  CU_ASSERT_EQUAL (back[0], 'T');
  st = status_of (one.relay);
  CU_ASSERT (st.longest_answer_ms >= 3 * o.silent_ms);
  CU_ASSERT_EQUAL (st.losses, 0);
  relay_close (one.relay);
  unlink (permission);
  unlink (done);
  server_destroy (&s);
}

static void *
write_durably (void *opaque)
{
  struct one_write *one = opaque;
  uint8_t block[4096];

  memset (block, one->first, sizeof block);
  one->result =
    relay_write (one->relay, block, sizeof block, 0, RELAY_FUA, NULL);
  return NULL;
}

/* Nothing is waited for where the operator wants that; and where a request was
 * lost that had been lost before, no longer than since then.
 */
static void
run_lost_twice (unsigned reconnect_ms, bool fua, int result)
{
  struct relay_options o = new_options ();
  char args[128], permission[64];
  struct one_write one;
  pthread_t thread;
  struct server s;

  o.reconnect_ms = reconnect_ms;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (args, sizeof args, "dawdle=%s fua=0", permission);
  server_start (&s, args);
  one = (struct one_write){ open_relay (&s, &o), 'S', -2 };
  pthread_create (&thread, NULL, fua ? write_durably : write_one, &one);
  wait_until_late (one.relay, 1);
  server_stop (&s, SIGKILL);
  if (reconnect_ms > 0) {
    wait_until_lost (one.relay, 1);
    server_start (&s, args);
    wait_until_up (one.relay, true);
    wait_until_late (one.relay, 1);
    server_stop (&s, SIGKILL);
    wait_until_lost (one.relay, 2);
    server_start (&s, NULL);
  }
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (one.result, result);
  relay_close (one.relay);
  server_destroy (&s);
}

static void
test_lost_twice (void)
{
  for (int fua = 0; fua < 2; ++fua) {
    run_lost_twice (0, fua, -1);
    run_lost_twice (600000, fua, 0);
  }
}

static void *
write_elsewhere (void *opaque)
{
  struct one_write *one = opaque;
  const uint8_t block[4096] = { one->first };

  __atomic_store_n (
    &one->result, relay_write (one->relay, block, sizeof block, 65536, 0, NULL),
    __ATOMIC_SEQ_CST);
  return NULL;
}

/* A connection is cut while a write over another one takes long: the
 * destination is slow, not away, and nobody gives up.  What came in between is
 * sent again, after that.
 */
static void
test_cut_beside_slow_write (void)
{
  struct relay_options o = new_options ();
  char args[128], permission[64], done[80];
  uint8_t block[4096] = { 'o' }, back[4096];
  struct one_write one, two;
  pthread_t first, second;
  struct server s;
  struct relay *r;
  int fds[2];

  o.connections = 2;
  o.reconnect_ms = 1000; /* enough for a busy machine */
  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (done, sizeof done, "%s.done", permission);
  snprintf (args, sizeof args, "dawdle=%s", permission);
  server_start (&s, args);
  r = open_relay (&s, &o);
  one = (struct one_write){ r, 'S', -2 };
  two = (struct one_write){ r, 'T', -2 };
  wait_until_connections (r, 2);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 8192, 0, NULL), 0);
  pthread_create (&first, NULL, write_one, &one);
  wait_until_late (r, 1);

  CU_ASSERT_EQUAL_FATAL (relay_sockets (r, fds, 2), 2);
  shutdown (fds[1], SHUT_RDWR); /* the first one is used first */
  wait_until_lost (r, 1);
  pthread_create (&second, NULL, write_elsewhere, &two);
  wait_until_late (r, status_of (r).oldest_request_ms + 3 * o.reconnect_ms);
  CU_ASSERT_FALSE (status_of (r).up);
  CU_ASSERT_FALSE (status_of (r).failing);
  CU_ASSERT_EQUAL (__atomic_load_n (&one.result, __ATOMIC_SEQ_CST), -2);
  CU_ASSERT_EQUAL (__atomic_load_n (&two.result, __ATOMIC_SEQ_CST), -2);

  close (open (permission, O_WRONLY | O_CREAT, 0600));
  pthread_join (first, NULL);
  pthread_join (second, NULL);
  CU_ASSERT_EQUAL (one.result, 0);
  CU_ASSERT_EQUAL (two.result, 0);
  CU_ASSERT (status_of (r).replayed_writes > 0);
  CU_ASSERT_EQUAL (relay_read (r, back, sizeof back, 0, NULL), 0);
  CU_ASSERT_EQUAL (back[0], 'S');
  CU_ASSERT_EQUAL (relay_read (r, back, sizeof back, 65536, NULL), 0);
  CU_ASSERT_EQUAL (back[0], 'T');
  close (fds[0]);
  close (fds[1]);
  relay_close (r);
  unlink (permission);
  unlink (done);
  server_destroy (&s);
}

static void
test_slow_write (void)
{
  run_slow_write ("");
  run_slow_write ("multi-conn=0");
}

struct expected_words {
  const char *words;
  bool said;
};

static void
listen_for (void *opaque, bool good, const char *text)
{
  struct expected_words *e = opaque;

  (void)good;
  if (strstr (text, e->words) != NULL)
    __atomic_store_n (&e->said, true, __ATOMIC_SEQ_CST);
}

/* The same, and the answer does not come: that is said after seconds, and a
 * proxy that is stopped does not wait for it.
 */
static void
test_cut_and_stopped (void)
{
  struct expected_words expected = { "has not answered all writes", false };
  struct relay_options o = new_options ();
  char args[128], permission[64];
  struct one_write one;
  pthread_t thread;
  struct server s;
  int fds[2];

  o.connections = 2;
  o.notice = listen_for;
  o.opaque = &expected;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (args, sizeof args, "dawdle=%s", permission);
  server_start (&s, args);
  one = (struct one_write){ open_relay (&s, &o), 'S', -2 };
  wait_until_connections (one.relay, 2);
  CU_ASSERT_EQUAL_FATAL (relay_sockets (one.relay, fds, 2), 2);
  pthread_create (&thread, NULL, write_one, &one);
  wait_until_late (one.relay, 1);
  /* It went to the first one; the other one has nothing to lose alone. */
  CU_ASSERT_EQUAL (relay_write (one.relay, "x", 1, 65536, 0, NULL), 0);
  shutdown (fds[1], SHUT_RDWR);
  wait_until_lost (one.relay, 1);
  wait_until_set (&expected.said);
  wait_until_late (one.relay, status_of (one.relay).oldest_request_ms + 300);
  relay_stop (one.relay);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (one.result, -1);
  relay_close (one.relay);
  for (unsigned i = 0; i < 2; ++i)
    close (fds[i]);
  server_destroy (&s);
}

struct many_writes {
  struct relay *relay;
  unsigned failed;
};

/* More than the log holds, in its order. */
static void *
write_many (void *opaque)
{
  struct many_writes *many = opaque;
  uint8_t block[16384] = { 'm' };

  for (unsigned i = 1; i < 60; ++i) {
    if (relay_write (many->relay, block, sizeof block, i * sizeof block, 0,
                     NULL) == -1)
      ++many->failed;
  }
  return NULL;
}

/* A slow write stands at the old end of the log, which is full of newer ones:
 * flushing frees nothing, so it is not done again and again.
 */
static void
test_no_flush_storm (void)
{
  struct relay_options o = new_options ();
  char args[128], permission[64], done[80];
  struct many_writes many = { NULL, 0 };
  unsigned tries = SERVER_TRIES;
  struct one_write one;
  pthread_t first, second;
  struct server s;

  o.log_bytes = 256 * 1024;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (done, sizeof done, "%s.done", permission);
  snprintf (args, sizeof args, "dawdle=%s", permission);
  server_start (&s, args);
  one = (struct one_write){ open_relay (&s, &o), 'S', -1 };
  many.relay = one.relay;
  wait_until_connections (one.relay, o.connections);
  pthread_create (&first, NULL, write_one, &one);
  wait_until_late (one.relay, 1);
  pthread_create (&second, NULL, write_many, &many);
  while (status_of (one.relay).log_used_bytes < o.log_bytes - 16384 &&
         --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
  wait_until_late (one.relay, status_of (one.relay).oldest_request_ms + 200);
  CU_ASSERT (status_of (one.relay).own_flushes < 10);
  close (open (permission, O_WRONLY | O_CREAT, 0600));
  pthread_join (first, NULL);
  pthread_join (second, NULL);
  CU_ASSERT_EQUAL (one.result, 0);
  CU_ASSERT_EQUAL (many.failed, 0);
  relay_close (one.relay);
  unlink (permission);
  unlink (done);
  server_destroy (&s);
}

/* ---- Room in the log ---------------------------------------------------- */

struct room_writer {
  struct relay *relay;
  pthread_t thread;
  uint64_t offset;
  unsigned flags;
  uint8_t first;  /* byte */
  unsigned asked; /* atomic: how often, while it waits */
  bool leaves;    /* atomic */
  int result, error;
};

static bool
stays (void *opaque)
{
  struct room_writer *w = opaque;

  __atomic_fetch_add (&w->asked, 1, __ATOMIC_SEQ_CST);
  return !__atomic_load_n (&w->leaves, __ATOMIC_SEQ_CST);
}

static void *
write_for_room (void *opaque)
{
  struct room_writer *w = opaque;
  const struct relay_waiter waiter = { stays, w };
  uint8_t block[16384];

  memset (block, w->first, sizeof block);
  w->result =
    relay_write (w->relay, block, sizeof block, w->offset, w->flags, &waiter);
  w->error = errno;
  return NULL;
}

static void
start_writer (struct room_writer *w, struct relay *r, uint8_t first,
              unsigned nr, unsigned flags)
{
  *w = (struct room_writer){
    .relay = r,
    .first = first,
    .offset = nr * 16384,
    .flags = flags,
  };
  pthread_create (&w->thread, NULL, write_for_room, w);
}

static void
wait_until_asked (struct room_writer *w)
{
  unsigned tries = SERVER_TRIES;

  while (__atomic_load_n (&w->asked, __ATOMIC_SEQ_CST) == 0 && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

static void
end_writer (struct room_writer *w, int result)
{
  pthread_join (w->thread, NULL);
  CU_ASSERT_EQUAL (w->result, result);
}

/* The server answers no flush, and a write only on a cue. */
struct no_room {
  struct server server;
  struct relay *relay;
  char cue[64], hold[64];
};

static void
begin_no_room (struct no_room *t)
{
  struct relay_options o = new_options ();
  char args[256];

  o.log_bytes = 65536; /* four of these writes */
  o.connections = 1;
  server_init (&t->server, FILE_BYTES, FILL);
  snprintf (t->cue, sizeof t->cue, "%.40s/cue", t->server.dir);
  snprintf (t->hold, sizeof t->hold, "%.40s/hold", t->server.dir);
  snprintf (args, sizeof args, "dawdle=%s hold-flush=%s fua=0", t->cue,
            t->hold);
  close (open (t->hold, O_WRONLY | O_CREAT, 0600));
  server_start (&t->server, args);
  t->relay = open_relay (&t->server, &o);
}

static void
write_block (struct relay *r, unsigned nr)
{
  uint8_t block[16384];

  memset (block, 'w', sizeof block);
  CU_ASSERT_EQUAL (
    relay_write (r, block, sizeof block, nr * sizeof block, 0, NULL), 0);
}

static void
end_no_room (struct no_room *t)
{
  char path[80];

  relay_close (t->relay);
  snprintf (path, sizeof path, "%s.done", t->cue);
  unlink (path);
  snprintf (path, sizeof path, "%s.begun", t->hold);
  unlink (path);
  snprintf (path, sizeof path, "%s.written", t->hold);
  unlink (path);
  unlink (t->cue);
  unlink (t->hold);
  server_destroy (&t->server);
}

static void
expect_first (struct relay *r, unsigned nr, uint8_t byte)
{
  uint8_t found = 0;

  CU_ASSERT_EQUAL (relay_read (r, &found, 1, nr * 16384, NULL), 0);
  CU_ASSERT_EQUAL (found, byte);
}

/* Who waits for room goes on when a flush has made some; who is gone meanwhile
 * leaves the others in their places.
 */
static void
test_room (void)
{
  struct room_writer slow, one, two, three;
  struct no_room t;

  begin_no_room (&t);
  start_writer (&slow, t.relay, 'S', 0, RELAY_FUA);
  wait_until_late (t.relay, 1);
  for (unsigned nr = 1; nr < 4; ++nr)
    write_block (t.relay, nr);
  start_writer (&one, t.relay, '1', 4, 0);
  wait_until_asked (&one);
  start_writer (&two, t.relay, '2', 5, 0);
  wait_until_asked (&two);
  start_writer (&three, t.relay, '3', 6, 0);
  wait_until_asked (&three);
  __atomic_store_n (&two.leaves, true, __ATOMIC_SEQ_CST);
  end_writer (&two, -1);
  CU_ASSERT_EQUAL (two.error, ESHUTDOWN);

  /* The oldest one is answered: there is something to flush. */
  close (open (t.cue, O_WRONLY | O_CREAT, 0600));
  unlink (t.hold);
  end_writer (&slow, 0);
  end_writer (&one, 0);
  end_writer (&three, 0);
  expect_first (t.relay, 0, 'S');
  expect_first (t.relay, 4, '1');
  expect_first (t.relay, 5, FILL);
  expect_first (t.relay, 6, '3');
  end_no_room (&t);
}

/* It is lost meanwhile: they go on in the next generation. */
static void
test_room_lost (void)
{
  struct room_writer one, two;
  struct no_room t;

  begin_no_room (&t);
  for (unsigned nr = 0; nr < 4; ++nr)
    write_block (t.relay, nr);
  start_writer (&one, t.relay, '1', 4, 0);
  wait_until_asked (&one);
  start_writer (&two, t.relay, '2', 5, 0);
  wait_until_asked (&two);
  server_stop (&t.server, SIGKILL);
  server_start (&t.server, NULL);
  end_writer (&one, 0);
  end_writer (&two, 0);
  expect_first (t.relay, 3, 'w');
  expect_first (t.relay, 4, '1');
  expect_first (t.relay, 5, '2');
  end_no_room (&t);
}

/* ---- Flushes that are under way together -------------------------------- */

static void *
flush_one (void *opaque)
{
  struct one_write *one = opaque;

  one->result = relay_flush (one->relay, NULL, NULL);
  return NULL;
}

/* The server tells one of them alone that it has lost something, and the other
 * one, which was answered sooner, fails as well (R13).
 */
static void
test_flushes (void)
{
  struct relay_options o = new_options ();
  char args[256], when[64], late[80], answer[80], log[64], grep[128];
  uint8_t block[4096] = { 'f' };
  unsigned tries = SERVER_TRIES;
  struct one_write one, two;
  pthread_t first, second;
  struct server s;

  o.connections = 1;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (when, sizeof when, "%.40s/when", s.dir);
  snprintf (late, sizeof late, "%s.late", when);
  snprintf (answer, sizeof answer, "%s.answer", when);
  snprintf (log, sizeof log, "%.40s/log", s.dir);
  snprintf (grep, sizeof grep, "grep -q 'Flush id=[0-9]* return=0' %s", log);
  snprintf (args, sizeof args, "--filter=log logfile=%s fail-flush-when=%s",
            log, when);
  server_start (&s, args);
  one = two = (struct one_write){ open_relay (&s, &o), 0, -2 };
  CU_ASSERT_EQUAL (relay_write (one.relay, block, sizeof block, 0, 0, NULL), 0);
  close (open (late, O_WRONLY | O_CREAT, 0600));
  close (open (when, O_WRONLY | O_CREAT, 0600));
  pthread_create (&first, NULL, flush_one, &one);
  while (access (late, F_OK) == 0 && --tries > 0)
    server_pause ();
  pthread_create (&second, NULL, flush_one, &two);
  while (system (grep) != 0 && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
  close (open (answer, O_WRONLY | O_CREAT, 0600));
  pthread_join (first, NULL);
  pthread_join (second, NULL);
  CU_ASSERT_EQUAL (one.result, -1);
  CU_ASSERT_EQUAL (two.result, -1);
  CU_ASSERT_EQUAL (status_of (one.relay).errors, 1);
  relay_close (one.relay);
  unlink (answer);
  unlink (log);
  server_destroy (&s);
}

/* A guest that writes and never flushes: after a while nothing is at stake. */
static void
test_idle (void)
{
  struct relay_options o = new_options ();
  uint8_t block[4096] = { 'i' }, file[4096];
  unsigned tries = SERVER_TRIES;
  struct server s;
  struct relay *r;

  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  CU_ASSERT (status_of (r).log_used_bytes > 0);
  while (status_of (r).log_used_bytes > 0 && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
  server_stop (&s, SIGKILL);
  server_read_file (&s, file, sizeof file);
  CU_ASSERT_EQUAL (memcmp (file, block, sizeof block), 0);
  relay_close (r);
  server_destroy (&s);
}

/* A connection that has done nothing ends while something is unflushed on
 * another one: the server may have been started again, with the end of that one
 * not noticed yet, and must not be read from before the log was sent again.
 */
static void
test_not_alone (void)
{
  struct relay_options o = new_options ();
  uint8_t block[4096] = { 'a' };
  struct server s;
  struct relay *r;
  int fds[3];

  o.connections = 3;
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  wait_until_connections (r, 3);
  CU_ASSERT_EQUAL_FATAL (relay_sockets (r, fds, 3), 3);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  shutdown (fds[2], SHUT_RDWR);
  wait_until_lost (r, 1);
  wait_until_up (r, true);
  CU_ASSERT (status_of (r).replayed_writes > 0);
  for (unsigned i = 0; i < 3; ++i)
    close (fds[i]);
  relay_close (r);
  server_destroy (&s);
}

/* The operator lets no request take longer: the guest hears of an error, and
 * the range stays locked, for reads too, until the answer is there.
 */
static void *
read_one (void *opaque)
{
  struct one_write *one = opaque;
  uint8_t block[4096];

  one->result = relay_read (one->relay, block, sizeof block, 0, NULL);
  one->first = block[0];
  return NULL;
}

/* Nothing that was sent can land any more: the disk may leave. */
static void
test_limit (void)
{
  struct relay_options o = new_options ();
  char args[128], permission[64], done[80];
  struct one_write one, two, three;
  uint8_t block[4096];
  struct server s;

  o.silent_ms = 100;
  o.request_limit_ms = 300;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (done, sizeof done, "%s.done", permission);
  snprintf (args, sizeof args, "dawdle=%s", permission);
  server_start (&s, args);
  one = (struct one_write){ open_relay (&s, &o), 'S', 0 };
  two = three = one;
  two.first = 'T';

  write_one (&one);
  CU_ASSERT_EQUAL (one.result, -1);
  CU_ASSERT (status_of (one.relay).requests_in_flight >= 1);
  CU_ASSERT (relay_late_ms (one.relay) > 0);
  memset (block, 'x', sizeof block);
  CU_ASSERT_EQUAL (relay_write (one.relay, block, 4096, 8192, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_read (one.relay, block, 4096, 8192, NULL), 0);
  CU_ASSERT_EQUAL (block[4095], 'x');
  write_one (&two);
  CU_ASSERT_EQUAL (two.result, -1);
  read_one (&three);
  CU_ASSERT_EQUAL (three.result, -1);
  CU_ASSERT_EQUAL (status_of (one.relay).losses, 0);

  close (open (permission, O_WRONLY | O_CREAT, 0600));
  wait_for_file (done);
  do
    write_one (&two);
  while (two.result != 0);
  CU_ASSERT_EQUAL (relay_flush (one.relay, NULL, NULL), 0);
  read_one (&three);
  CU_ASSERT_EQUAL (three.result, 0);
  CU_ASSERT_EQUAL (three.first, 'T');
  wait_until_not_late (one.relay);
  relay_close (one.relay);
  unlink (permission);
  unlink (done);
  server_destroy (&s);
}

static void
count_unknown (void *opaque, uint64_t offset, uint64_t length, int64_t left_ms)
{
  (void)left_ms;
  CU_ASSERT_EQUAL (offset, 0);
  CU_ASSERT_EQUAL (length, 4096);
  ++*(unsigned *)opaque;
}

static unsigned
unknown_ranges (struct relay *r)
{
  unsigned n = 0;

  relay_unknown (r, count_unknown, &n);
  return n;
}

/* A write is under way when the destination is lost, and it does not come back
 * in time: the guest hears of an error.  Later it is back, without that write.
 * What the guest reads then is what it wanted to write, at the first read and
 * at each after it.
 */
static void
test_unknown (void)
{
  struct relay_options o = new_options ();
  char args[128], permission[64];
  struct one_write one, reader;
  unsigned tries = SERVER_TRIES;
  pthread_t thread;
  struct server s;

  o.reconnect_ms = 100;
  o.silent_ms = 50;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (args, sizeof args, "dawdle=%s", permission);
  server_start (&s, args);
  one = (struct one_write){ open_relay (&s, &o), 'S', 0 };
  reader = one;

  pthread_create (&thread, NULL, write_one, &one);
  wait_until_late (one.relay, 3 * o.silent_ms);
  server_stop (&s, SIGKILL);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (one.result, -1);
  CU_ASSERT_EQUAL (unknown_ranges (one.relay), 1);
  CU_ASSERT (relay_late_ms (one.relay) > 0);
  read_one (&reader);
  CU_ASSERT_EQUAL (reader.result, -1);
  write_one (&reader); /* its range is locked */
  CU_ASSERT_EQUAL (reader.result, -1);

  server_start (&s, NULL);
  wait_until_up (one.relay, true);
  read_one (&reader);
  CU_ASSERT_EQUAL (reader.result, 0);
  CU_ASSERT_EQUAL (reader.first, 'S');
  while (unknown_ranges (one.relay) > 0 && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
  wait_until_not_late (one.relay);

  /* It is a write like any other now: it outlives a crash. */
  server_stop (&s, SIGKILL);
  server_start (&s, NULL);
  wait_until_lost (one.relay, 2);
  wait_until_up (one.relay, true);
  read_one (&reader);
  CU_ASSERT_EQUAL (reader.result, 0);
  CU_ASSERT_EQUAL (reader.first, 'S');
  relay_close (one.relay);
  server_destroy (&s);
}

/* The destination is away, and it is not known whether it has done a write. */
struct unknown {
  struct server server;
  struct relay *relay;
  struct expected_words expected;
};

static void
begin_unknown (struct unknown *t, const char *words, unsigned grace_ms)
{
  struct relay_options o = new_options ();
  char args[128], permission[64];
  struct one_write one;
  pthread_t thread;

  t->expected = (struct expected_words){ words, false };
  o.connections = 1;
  o.reconnect_ms = 100;
  o.silent_ms = 50;
  o.grace_ms = grace_ms;
  o.notice = listen_for;
  o.opaque = &t->expected;
  server_init (&t->server, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", t->server.dir);
  snprintf (args, sizeof args, "dawdle=%s", permission);
  server_start (&t->server, args);
  t->relay = open_relay (&t->server, &o);
  one = (struct one_write){ t->relay, 'S', 0 };
  pthread_create (&thread, NULL, write_one, &one);
  wait_until_late (t->relay, 1);
  server_stop (&t->server, SIGKILL);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (one.result, -1);
}

static void
end_unknown (struct unknown *t)
{
  relay_close (t->relay);
  server_destroy (&t->server);
}

/* It has landed. */
static void
test_unknown_landed (void)
{
  uint8_t block[4096];
  struct unknown t;
  int fd;

  begin_unknown (&t, "was found done", NO_GRACE_MS);
  memset (block, 'S', sizeof block);
  fd = open (t.server.file, O_WRONLY | O_CLOEXEC);
  CU_ASSERT_EQUAL (write (fd, block, sizeof block), sizeof block);
  close (fd);
  server_start (&t.server, NULL);
  wait_until_set (&t.expected.said);
  wait_until_not_late (t.relay);
  expect_byte (t.relay, 'S');
  end_unknown (&t);
}

/* It cannot be repeated: whoever reads sees what is there. */
static void
test_unknown_refused (void)
{
  struct unknown t;

  begin_unknown (&t, "cannot be repeated", NO_GRACE_MS);
  server_start (&t.server, "refuse-writes=1");
  wait_until_set (&t.expected.said);
  wait_until_not_late (t.relay);
  expect_byte (t.relay, FILL);
  end_unknown (&t);
}

/* It is lost again while it is looked at, or repeated, and then repeated. */
static void
run_unknown_lost (const char *what)
{
  char args[160], log[64], request[16];
  struct unknown t;

  begin_unknown (&t, "was done again", NO_GRACE_MS);
  snprintf (request, sizeof request, " %s ", what);
  snprintf (log, sizeof log, "%.40s/log", t.server.dir);
  if (strcmp (what, "Read") == 0)
    snprintf (args, sizeof args,
              "--filter=log logfile=%s --filter=delay rdelay=3600", log);
  else
    snprintf (args, sizeof args, "--filter=log logfile=%s dawdle=%.40s/no", log,
              t.server.dir);
  server_start (&t.server, args);
  wait_until_logged (log, request, 1);
  server_stop (&t.server, SIGKILL);
  CU_ASSERT_EQUAL (unknown_ranges (t.relay), 1);
  server_start (&t.server, NULL);
  wait_until_set (&t.expected.said);
  wait_until_not_late (t.relay);
  expect_byte (t.relay, 'S');
  unlink (log);
  end_unknown (&t);
}

static void
test_unknown_lost (void)
{
  run_unknown_lost ("Read");
  run_unknown_lost ("Write");
}

/* How long it may land is known while it is back. */
static void
test_unknown_for_long (void)
{
  struct unknown t;

  begin_unknown (&t, "", 60000);
  server_start (&t.server, NULL);
  wait_until_up (t.relay, true);
  CU_ASSERT (relay_late_ms (t.relay) > 1000);
  CU_ASSERT (relay_late_ms (t.relay) <= 60000);
  end_unknown (&t);
}

struct slow_request {
  struct relay *relay;
  bool trims;
  int result;
};

static void *
zero_or_trim (void *opaque)
{
  struct slow_request *q = opaque;

  q->result = q->trims ? relay_trim (q->relay, 4096, 0, 0, NULL)
                       : relay_zero (q->relay, 4096, 0, 0, NULL);
  return NULL;
}

/* The same of a zero, which is done again; and of a trim, which is not: what it
 * leaves is for the server to choose.
 */
static void
run_unknown (bool trims, const char *words)
{
  struct expected_words expected = { words, false };
  struct relay_options o = new_options ();
  struct slow_request q = { .trims = trims };
  struct one_write reader;
  pthread_t thread;
  struct server s;

  o.reconnect_ms = 100;
  o.silent_ms = 50;
  o.notice = listen_for;
  o.opaque = &expected;
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, "zero-ms-per-mib=1000000000"); /* it is killed before */
  q.relay = open_relay (&s, &o);
  pthread_create (&thread, NULL, zero_or_trim, &q);
  wait_until_late (q.relay, 3 * o.silent_ms);
  server_stop (&s, SIGKILL);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (q.result, -1);
  CU_ASSERT_EQUAL (unknown_ranges (q.relay), 1);

  server_start (&s, NULL);
  wait_until_set (&expected.said);
  wait_until_not_late (q.relay);
  reader = (struct one_write){ .relay = q.relay };
  read_one (&reader);
  CU_ASSERT_EQUAL (reader.result, 0);
  CU_ASSERT_EQUAL (reader.first, trims ? FILL : 0);
  relay_close (q.relay);
  server_destroy (&s);
}

static void
test_unknown_zero (void)
{
  run_unknown (false, "was done again");
  run_unknown (true, "is not repeated");
}

/* What is unflushed while it is away will be sent again; and what another
 * process has sent may land, for as long as that said, also if it has left no
 * writes.
 */
static void
test_late (void)
{
  struct relay_options o = new_options ();
  const struct relay_rest rest = { .grace_ms = 60000 };
  uint8_t block[4096] = { 'l' };
  struct server s;
  struct relay *r;

  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_late_ms (r), 0);
  server_stop (&s, SIGKILL);
  wait_until_up (r, false);
  CU_ASSERT (relay_late_ms (r) > 0);
  server_start (&s, NULL);
  wait_until_not_late (r);
  relay_close (r);

  o.rest = &rest;
  r = open_relay (&s, &o);
  CU_ASSERT (relay_late_ms (r) > 0);
  relay_close (r);

  o.rest = NULL;
  o.takes_over = true;
  o.grace_ms = 60000;
  r = open_relay (&s, &o);
  CU_ASSERT (relay_late_ms (r) > 0);
  CU_ASSERT (relay_late_ms (r) <= o.grace_ms);
  relay_close (r);
  server_destroy (&s);
}

struct late_restoring {
  unsigned refusals;
  bool asked_before; /* it was not noted then */
  bool restored, told, told_early;
};

static int
restore_late (void *opaque, char **why)
{
  struct late_restoring *t = opaque;

  *why = NULL;
  if (t->refusals > 0) {
    --t->refusals;
    return -1;
  }
  __atomic_store_n (&t->restored, true, __ATOMIC_SEQ_CST);
  return 0;
}

static bool
note_told (void *opaque, uint64_t ms)
{
  struct late_restoring *t = opaque;

  CU_ASSERT (ms > 0);
  if (!__atomic_load_n (&t->restored, __ATOMIC_SEQ_CST))
    t->told_early = true;
  if (!t->asked_before) {
    t->asked_before = true;
    return false;
  }
  __atomic_store_n (&t->told, true, __ATOMIC_SEQ_CST);
  return true;
}

/* Of a slow server nothing is recorded as long as what an earlier process had
 * kept is not there: that is of the record as it was.  The refusals are so many
 * that the watcher comes by.
 */
static void
test_slow_restoring (void)
{
  struct relay_options o = new_options ();
  struct late_restoring t = { .refusals = 5 };
  const uint8_t block[4096] = { 'S' };
  const struct relay_entry entry = {
    .kind = RELAY_ENTRY_WRITE,
    .length = sizeof block,
    .data = block,
  };
  const struct relay_rest rest = { .entries = &entry, .nr_entries = 1 };
  char args[256], log[64], permission[64], done[80];
  struct server s;
  struct relay *r;

  o.grace_ms = 2;
  o.rest = &rest;
  o.restored = restore_late;
  o.delayed = note_told;
  o.opaque = &t;
  server_init (&s, FILE_BYTES, FILL);
  snprintf (log, sizeof log, "%.40s/log", s.dir);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (done, sizeof done, "%s.done", permission);
  snprintf (args, sizeof args, "--filter=log logfile=%s dawdle=%s", log,
            permission);
  server_start (&s, args);
  r = open_relay (&s, &o);
  wait_until_logged (log, " Write id=1 ", 1);
  server_pause ();
  close (open (permission, O_WRONLY | O_CREAT, 0600));
  wait_until_set (&t.told);
  CU_ASSERT_FALSE (t.told_early);
  wait_until_up (r, true);
  relay_close (r);
  unlink (log);
  unlink (permission);
  unlink (done);
  server_destroy (&s);
}

/* ---- Stopping ---------------------------------------------------------- */

static bool
is_gone (void *opaque)
{
  (void)opaque;
  return false;
}

static void
test_waiter_gone (void)
{
  struct relay_options o = new_options ();
  const struct relay_waiter gone = { is_gone, NULL };
  uint8_t block[4096] = { 0 };
  struct server s;
  struct relay *r;

  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  r = open_relay (&s, &o);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, &gone), 0);
  server_stop (&s, SIGKILL);
  wait_until_up (r, false);
  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, &gone), -1);
  CU_ASSERT_EQUAL (errno, ESHUTDOWN);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, &gone), -1);
  CU_ASSERT_EQUAL (errno, ESHUTDOWN);
  relay_close (r);
  server_destroy (&s);
}

static void
stop_while (int sig)
{
  struct relay_options o = new_options ();
  struct one_write one;
  pthread_t thread;
  struct server s;

  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  one = (struct one_write){ open_relay (&s, &o), 'x', 0 };
  if (sig == SIGKILL) {
    server_stop (&s, sig);
    wait_until_up (one.relay, false);
  }
  else
    server_signal (&s, sig);
  pthread_create (&thread, NULL, write_one, &one);
  if (sig == SIGSTOP) {
    while (status_of (one.relay).requests_in_flight == 0)
      server_pause ();
  }
  relay_stop (one.relay);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (one.result, -1);
  CU_ASSERT_EQUAL (relay_flush (one.relay, NULL, NULL), -1);
  CU_ASSERT_EQUAL (errno, ESHUTDOWN);
  relay_close (one.relay);
  server_destroy (&s);
}

/* A request that comes after that, to a range that another one has. */
static void
stop_beside_slow_write (void)
{
  struct relay_options o = new_options ();
  char args[128], permission[64];
  struct one_write one, two;
  pthread_t thread;
  struct server s;

  server_init (&s, FILE_BYTES, FILL);
  snprintf (permission, sizeof permission, "%.40s/go", s.dir);
  snprintf (args, sizeof args, "dawdle=%s", permission);
  server_start (&s, args);
  one = (struct one_write){ open_relay (&s, &o), 'S', 0 };
  two = (struct one_write){ one.relay, 'T', 0 };
  pthread_create (&thread, NULL, write_one, &one);
  wait_until_late (one.relay, 1);
  relay_stop (one.relay);
  write_one (&two);
  CU_ASSERT_EQUAL (two.result, -1);
  CU_ASSERT_EQUAL (errno, ESHUTDOWN);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (one.result, -1);
  relay_close (one.relay);
  server_destroy (&s);
}

/* While further connections are made. */
static void
stop_early (void)
{
  struct relay_options o = new_options ();
  struct server s;
  struct relay *r;

  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, NULL);
  for (unsigned i = 0; i < 8; ++i) {
    r = open_relay (&s, &o);
    for (unsigned n = 0; n < i; ++n)
      sched_yield ();
    server_signal (&s, SIGSTOP);
    relay_close (r);
    server_signal (&s, SIGCONT);
  }
  server_destroy (&s);
}

/* With a destination that is away, and one that hangs. */
static void
test_stop (void)
{
  stop_early ();
  stop_while (SIGKILL);
  stop_while (SIGSTOP);
  stop_beside_slow_write ();
}

/* ---- Another server ---------------------------------------------------- */

static bool
have_qemu (void)
{
  if (system ("qemu-nbd --version > /dev/null 2>&1") == 0)
    return true;
  printf ("SKIP: no qemu-nbd ");
  return false;
}

static void
run_qemu (struct server *s)
{
  char *argv[] = { "qemu-nbd", "-t", "-e",      "8",     "-f",
                   "raw",      "-k", s->socket, s->file, NULL };

  server_run (s, argv);
}

/* It stops answering for a while: nothing is lost, nothing is given up. */
static void
test_hanging (void)
{
  struct relay_options o = new_options ();
  struct workers w;
  struct server s;
  struct relay *r;

  o.silent_ms = 100;
  if (!have_qemu ())
    return;
  workers_init (&w);
  server_init (&s, FILE_BYTES, FILL);
  run_qemu (&s);
  r = open_relay (&s, &o);
  workers_start (&w, r, UINT32_MAX);
  for (unsigned i = 0; i < 3; ++i) {
    workers_advance (&w, 20);
    server_signal (&s, SIGSTOP);
    wait_until_late (r, 3 * o.silent_ms);
    server_signal (&s, SIGCONT);
  }
  workers_advance (&w, 20);
  workers_join (&w, true);
  workers_check (&w, r);
  CU_ASSERT_EQUAL (status_of (r).losses, 0);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
  workers_check_file (&w, &s);
  relay_close (r);
  server_destroy (&s);
  workers_destroy (&w);
}

static void
test_qemu (void)
{
  struct relay_options o = new_options ();
  struct workers w;
  struct server s;
  struct relay *r;

  if (system ("qemu-nbd --version > /dev/null 2>&1") != 0) {
    printf ("SKIP: no qemu-nbd ");
    return;
  }
  workers_init (&w);
  server_init (&s, FILE_BYTES, FILL);
  char *argv[] = { "qemu-nbd", "-t", "-e",     "8",    "-f",
                   "raw",      "-k", s.socket, s.file, NULL };
  server_run (&s, argv);
  r = open_relay (&s, &o);
  workers_start (&w, r, UINT32_MAX);
  for (unsigned i = 0; i < 3; ++i) {
    workers_advance (&w, 20);
    server_stop (&s, SIGKILL);
    run_qemu (&s);
  }
  workers_advance (&w, 20);
  workers_join (&w, true);
  workers_check (&w, r);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
  workers_check_file (&w, &s);
  relay_close (r);
  server_destroy (&s);
  workers_destroy (&w);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "killed under load", test_killed },
    { "killed, with blocks", test_killed_with_blocks },
    { "comes back changed", test_changes },
    { "terminated under load", test_terminated },
    { "its own flushes", test_own_flush },
    { "a write larger than the log", test_large_write },
    { "it is refused", test_large_write_refused },
    { "FUA", test_fua },
    { "a flush at close", test_flush_at_close },
    { "the replay is refused", test_replay_refused },
    { "a flush is refused", test_flush_refused },
    { "read after a failed flush", test_read_after_failed_flush },
    { "written by others", test_written_by_others },
    { "read after a takeover", test_read_after_takeover },
    { "cannot be recognised", test_not_read },
    { "recognised in large blocks", test_large_blocks },
    { "recognised across blocks", test_across_blocks },
    { "two disks behind an address", test_two_behind_an_address },
    { "a replay that is interrupted", test_interrupted_replay },
    { "and something newer in the log", test_interrupted_and_newer },
    { "a large record, and it is lost", test_alone_lost },
    { "what goes before it is lost", test_alone_after_lost },
    { "a record in pieces", test_alone_pieces },
    { "a record that is refused", test_alone_refused },
    { "away for too long", test_away },
    { "became unfit", test_unfit },
    { "a slow write is waited for", test_slow_write },
    { "a slow write is lost", test_lost_twice },
    { "a cut beside a slow write", test_cut_beside_slow_write },
    { "a cut beside one that is not answered", test_cut_and_stopped },
    { "no flush storm", test_no_flush_storm },
    { "room in the log", test_room },
    { "room in the log, and a loss", test_room_lost },
    { "flushes together", test_flushes },
    { "idle", test_idle },
    { "no connection goes alone", test_not_alone },
    { "a limit for requests", test_limit },
    { "a write of unknown outcome", test_unknown },
    { "it has landed", test_unknown_landed },
    { "it is refused", test_unknown_refused },
    { "it is lost again", test_unknown_lost },
    { "it may land for long", test_unknown_for_long },
    { "a zero or trim of unknown outcome", test_unknown_zero },
    { "what may land late", test_late },
    { "a slow server, and something kept", test_slow_restoring },
    { "the waiter is gone", test_waiter_gone },
    { "stopping", test_stop },
    { "qemu-nbd killed under load", test_qemu },
    { "qemu-nbd hangs under load", test_hanging },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("relay-loss", tests);
}
