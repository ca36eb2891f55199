/* SPDX-License-Identifier: BSD-3-Clause */
/* timeout: 120
 *
 * What the guest negotiated stays true whatever the destination offers (R13,
 * R19): several threads send requests of odd offsets and lengths to
 * destinations that lack one thing or another, and every byte is checked.
 */

#include "relay-worker.h"

#define STEPS 400

static void
run_against (const char *args)
{
  struct relay_options o = default_options (DISK_BYTES);
  struct workers w;
  struct server s;
  struct relay *r;
  char *why;

  workers_init (&w);
  server_init (&s, FILE_BYTES, FILL);
  server_start (&s, args);
  o.log_bytes = 1024 * 1024;
  r = relay_open (s.uri, &o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  workers_start (&w, r, STEPS);
  workers_join (&w, false);
  workers_check (&w, r);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
  workers_check_file (&w, &s);
  relay_close (r);
  server_stop (&s, SIGTERM);
  server_destroy (&s);
  workers_destroy (&w);
}

static void
test_plain (void)
{
  run_against (NULL);
}

static void
test_blocks (void)
{
  run_against ("minimum=4096 maximum=8192");
}

static void
test_large_blocks (void)
{
  run_against ("minimum=65536 maximum=65536 multi-conn=0");
}

static void
test_nothing_offered (void)
{
  run_against ("--filter=nozero --no-sr fua=0 trim=0 cache=0 multi-conn=0");
}

static void
test_nothing_offered_in_blocks (void)
{
  run_against ("--filter=nozero fua=0 trim=0 minimum=512 maximum=65536");
}

/* ---- At the edges -------------------------------------------------------- */

static int
refuse_extent (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  (void)offset;
  (void)length;
  (void)flags;
  ++*(unsigned *)opaque;
  return ENOSPC;
}

static struct relay *
open_against (struct server *s, const char *args, uint8_t fill)
{
  const struct relay_options o = default_options (DISK_BYTES);
  struct relay *r;
  char *why;

  server_init (s, FILE_BYTES, fill);
  server_start (s, args);
  r = relay_open (s->uri, &o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  return r;
}

static void
test_nothing (void)
{
  struct server s;
  struct relay *r = open_against (&s, NULL, FILL);
  unsigned calls = 0;
  uint8_t byte = 0;

  CU_ASSERT_EQUAL (relay_read (r, &byte, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_write (r, &byte, 0, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_zero (r, 0, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_trim (r, 0, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_cache (r, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_block_status (r, 0, 0, refuse_extent, &calls, NULL),
                   0);
  CU_ASSERT_EQUAL (calls, 0);
  CU_ASSERT_EQUAL (relay_read (r, &byte, 1, 0, NULL), 0);
  CU_ASSERT_EQUAL (byte, FILL);
  relay_close (r);
  server_destroy (&s);
}

/* What the destination answers, or who asks, is what is heard. */
static void
test_errors (void)
{
  struct server s;
  struct relay *r = open_against (&s,
                                  "refuse-writes=1 --filter=error error=EPERM "
                                  "error-extents-rate=1 error-zero-rate=1",
                                  FILL);
  uint8_t block[4096] = { 1 };
  unsigned calls = 0;

  CU_ASSERT_EQUAL (relay_write (r, block, sizeof block, 0, 0, NULL), -1);
  CU_ASSERT_EQUAL (errno, ENOSPC);
  CU_ASSERT_EQUAL (relay_write (r, block, 1, 1, 0, NULL), -1);
  CU_ASSERT_EQUAL (errno, ENOSPC);
  CU_ASSERT_EQUAL (relay_zero (r, 4096, 0, 0, NULL), -1);
  CU_ASSERT_EQUAL (errno, EPERM);
  CU_ASSERT_EQUAL (relay_block_status (r, 4096, 0, refuse_extent, &calls, NULL),
                   -1);
  CU_ASSERT_EQUAL (errno, EPERM);
  CU_ASSERT_EQUAL (calls, 0);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
  relay_close (r);
  server_destroy (&s);

  r = open_against (&s, NULL, FILL);
  CU_ASSERT_EQUAL (relay_block_status (r, 4096, 0, refuse_extent, &calls, NULL),
                   -1);
  CU_ASSERT_EQUAL (errno, ENOSPC);
  CU_ASSERT_EQUAL (calls, 1);
  relay_close (r);
  server_destroy (&s);
}

/* Nothing of what is zero proves whose disk it is; and it is not looked at for
 * ever.
 */
static void
test_zero_disk (void)
{
  struct server s;
  struct relay *r = open_against (&s, NULL, 0);
  uint8_t block[512];

  for (unsigned i = 0; i < 5000; ++i)
    CU_ASSERT_EQUAL (
      relay_read (r, block, sizeof block, i % 2000 * sizeof block, NULL), 0);
  relay_close (r);
  server_destroy (&s);
}

/* ---- Several requests, several connections ----------------------------- */

static void
test_connections (void)
{
  struct relay_options o = default_options (FILE_BYTES);
  struct relay_status st;
  struct server s;
  struct relay *r;
  int fds[8];
  char *why;

  server_init (&s, FILE_BYTES, 0);
  server_start (&s, NULL);
  o.connections = 3;
  r = relay_open (s.uri, &o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  wait_until_connections (r, 3);
  CU_ASSERT_EQUAL (relay_sockets (r, fds, 8), 3);

  /* One that was idle breaks: no loss, and a new one comes. */
  shutdown (fds[2], SHUT_RDWR);
  for (unsigned tries = SERVER_TRIES; tries > 0; --tries) {
    relay_get_status (r, &st);
    if (st.connections == 2)
      break;
    server_pause ();
  }
  wait_until_connections (r, 3);
  relay_get_status (r, &st);
  CU_ASSERT_EQUAL (st.losses, 0);
  for (unsigned i = 0; i < 3; ++i)
    close (fds[i]);
  relay_close (r);

  server_stop (&s, SIGTERM);
  server_start (&s, "multi-conn=0");
  r = relay_open (s.uri, &o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
  relay_get_status (r, &st);
  CU_ASSERT_EQUAL (st.connections, 1);
  relay_close (r);
  server_destroy (&s);
}

/* ---- Zeroes in pieces -------------------------------------------------- */

#define MIB 1048576

/* The longest request to zero in nbdkit's log and the first that is not as long
 * as the first of all (0: none), in bytes.
 */
static void
read_log (const char *path, uint64_t *longest, uint64_t *other)
{
  FILE *fp = fopen (path, "r");
  uint64_t first = 0, bytes;
  char line[512];

  CU_ASSERT_PTR_NOT_NULL_FATAL (fp);
  *longest = *other = 0;
  while (fgets (line, sizeof line, fp) != NULL) {
    const char *count = strstr (line, "count=0x");

    if (strstr (line, " Zero id=") == NULL || count == NULL)
      continue;
    bytes = strtoull (count + strlen ("count="), NULL, 16);
    if (first == 0)
      first = bytes;
    if (*other == 0 && bytes != first)
      *other = bytes;
    if (bytes > *longest)
      *longest = bytes;
  }
  fclose (fp);
}

static void
zero_all (uint64_t bytes, unsigned ms_per_mib, uint64_t *longest,
          uint64_t *other)
{
  const struct relay_options o = default_options (bytes);
  uint8_t *back = malloc (bytes);
  char args[256], log[64];
  struct server s;
  struct relay *r;
  char *why;

  server_init (&s, bytes, FILL);
  snprintf (log, sizeof log, "%.40s/log", s.dir);
  snprintf (args, sizeof args, "--filter=log logfile=%s zero-ms-per-mib=%u",
            log, ms_per_mib);
  server_start (&s, args);
  r = relay_open (s.uri, &o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  CU_ASSERT_EQUAL (relay_zero (r, bytes, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_read (r, back, bytes, 0, NULL), 0);
  CU_ASSERT (back[0] == 0 && memcmp (back, back + 1, bytes - 1) == 0);
  relay_close (r);
  server_stop (&s, SIGTERM);
  read_log (log, longest, other);
  unlink (log);
  server_destroy (&s);
  free (back);
}

/* A guest zeroes much of a disk: a server that needs long for it is asked for
 * less at a time, one that is fast for more.
 */
static void
test_pieces (void)
{
  uint64_t longest, other;

  /* How far it goes down depends on how busy this machine is. */
  zero_all (12 * MIB, 160, &longest, &other);
  CU_ASSERT_EQUAL (longest, 4 * MIB);
  CU_ASSERT_EQUAL (other, 2 * MIB);
  /* One piece that is fast is enough, and on a busy machine none may be. */
  longest = 0;
  for (unsigned tries = 50; longest < 8 * MIB && tries > 0; --tries)
    zero_all (64 * MIB, 0, &longest, &other);
  CU_ASSERT (longest >= 8 * MIB);
}

/* ---- Refusals ---------------------------------------------------------- */

static void
expect_refusal (const char *uri, const char *part)
{
  struct relay_options o = default_options (FILE_BYTES);
  char *why;

  o.connect_ms = 500;
  CU_ASSERT_PTR_NULL (relay_open (uri, &o, NULL, &why));
  CU_ASSERT_PTR_NOT_NULL_FATAL (why);
  if (strstr (why, part) == NULL || strstr (why, uri) == NULL) {
    printf ("(%s) ", why);
    CU_FAIL ("another reason");
  }
  free (why);
}

static void
test_refusals (void)
{
  struct server s;

  server_init (&s, FILE_BYTES - 512, 0);
  expect_refusal (s.uri, "onnect"); /* nobody listens */
  server_start (&s, NULL);
  expect_refusal (s.uri, "1048064");

  /* Accepts, but never answers: as one client too many of qemu-nbd's. */
  server_signal (&s, SIGSTOP);
  expect_refusal (s.uri, "qemu-nbd -e");
  server_signal (&s, SIGCONT);
  server_stop (&s, SIGTERM);

  server_start (&s, "-r");
  expect_refusal (s.uri, "read-only");
  server_stop (&s, SIGTERM);
  server_destroy (&s);

  expect_refusal ("nbds+unix:///?socket=/nowhere", "X.509");
  expect_refusal ("nonsense", "nonsense");
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a destination that offers all", test_plain },
    { "small blocks", test_blocks },
    { "large blocks", test_large_blocks },
    { "nothing offered", test_nothing_offered },
    { "nothing offered, in blocks", test_nothing_offered_in_blocks },
    { "nothing is asked for", test_nothing },
    { "errors", test_errors },
    { "a disk of zeroes", test_zero_disk },
    { "connections", test_connections },
    { "zeroes in pieces", test_pieces },
    { "refusals", test_refusals },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("relay-requests", tests);
}
