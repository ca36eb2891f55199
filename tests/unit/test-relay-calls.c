/* SPDX-License-Identifier: BSD-3-Clause */
/* timeout: 180
 *
 * The relay while calls fail: without memory, threads, or descriptors.
 *
 * What cannot be begun is refused, and leaves nothing behind; a request fails
 * with the error or works, and the next one works; and what must not be given
 * up (R13, R17) is waited for until there is memory again.
 */

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "failing-calls.h"
#include "relay-unit.h"

#define BYTES 1048576
#define FILL 0xee
#define BLOCK 4096

static struct server server;
static struct relay *relay;
static char *why;

static struct relay_options
new_options (void)
{
  struct relay_options o = default_options (BYTES);

  o.connections = 1;
  o.log_bytes = BYTES;
  o.grace_ms = 10;
  return o;
}

static void
open_relay (const struct relay_options *o)
{
  relay = relay_open (server.uri, o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (relay);
}

static void
begin (const char *args, const struct relay_options *o)
{
  server_init (&server, BYTES, FILL);
  server_start (&server, args);
  if (o != NULL)
    open_relay (o);
}

static void
end (void)
{
  if (relay != NULL)
    relay_close (relay);
  relay = NULL;
  server_destroy (&server);
}

static struct relay_status
status (void)
{
  return status_of (relay);
}

/* An upper bound for what takes no certain time. */
static void
wait_until (bool (*is_so) (void))
{
  unsigned tries = SERVER_TRIES;

  while (!is_so () && --tries > 0)
    server_pause ();
  CU_ASSERT_NOT_EQUAL (tries, 0);
}

static bool
is_up (void)
{
  return status ().up;
}

static bool
is_down (void)
{
  return !status ().up;
}

static bool
is_failing (void)
{
  return status ().failing;
}

static bool
has_failed (void)
{
  return __atomic_load_n (&failing.failed, __ATOMIC_ACQUIRE) > 0;
}

static bool
has_failed_often (void)
{
  return __atomic_load_n (&failing.failed, __ATOMIC_ACQUIRE) > 2;
}

/* Where there is a limit a busy machine may take longer. */
static void
expect_byte (uint64_t offset, uint8_t byte)
{
  uint8_t found = (uint8_t)~byte;
  unsigned tries = 20;

  while (relay_read (relay, &found, 1, offset, NULL) == -1 && --tries > 0)
    ;
  CU_ASSERT_EQUAL (found, byte);
}

/* ---- Opening ------------------------------------------------------------ */

static struct relay_options opening;

/* What is refused is refused for a reason; what is not, works. */
static bool
open_without (unsigned long n, bool lasts)
{
  uint8_t block[BLOCK] = { 'o' };

  failing_arm (n, lasts);
  relay = relay_open (server.uri, &opening, NULL, &why);
  failing_disarm ();
  if (relay == NULL)
    CU_ASSERT (failing.failed > 0);
  free (why);
  why = NULL;
  if (relay != NULL) {
    CU_ASSERT_EQUAL (relay_write (relay, block, BLOCK, BYTES - BLOCK, 0, NULL),
                     0);
    relay_close (relay);
  }
  relay = NULL;
  return failing.failed > 0;
}

static void
run_open (void)
{
  for (int lasts = 0; lasts < 2; ++lasts)
    for (unsigned long n = 0; open_without (n, lasts); ++n)
      ;
}

static void
test_open (void)
{
  static const uint8_t data[BLOCK] = { 'r' };
  const struct relay_entry entries[] = {
    { .kind = RELAY_ENTRY_WRITE, .length = BLOCK, .data = data },
    { .kind = RELAY_ENTRY_ZERO, .no_hole = true, .offset = BLOCK, .length = 1 },
  };
  const struct relay_rest rest = { .entries = entries, .nr_entries = 2 };

  begin (NULL, NULL);
  opening = new_options ();
  opening.connections = 0; /* one */
  run_open ();
  opening.connections = 1000; /* as many as there may be */
  open_relay (&opening);
  relay_close (relay);
  relay = NULL;
  opening.takes_over = true;
  run_open ();
  opening.rest = &rest;
  run_open ();
  end ();
}

/* ---- Requests ----------------------------------------------------------- */

static uint8_t buffer[3 * BLOCK];

static int
stop_at_once (void *opaque, uint64_t offset, uint64_t length, uint32_t flags)
{
  (void)opaque;
  (void)offset;
  (void)length;
  (void)flags;
  return 0;
}

static int
act_write (void)
{
  memset (buffer, 'w', sizeof buffer);
  return relay_write (relay, buffer, sizeof buffer - 100, 50, 0, NULL);
}

static int
act_read (void)
{
  return relay_read (relay, buffer, sizeof buffer - 100, 50, NULL);
}

static int
act_zero (void)
{
  return relay_zero (relay, 2 * BLOCK, 50, 0, NULL);
}

static int
act_zero_in_a_block (void)
{
  return relay_zero (relay, 100, 50, RELAY_FUA, NULL);
}

static int
act_trim (void)
{
  return relay_trim (relay, 2 * BLOCK, 50, RELAY_FUA, NULL);
}

static int
act_cache (void)
{
  return relay_cache (relay, BLOCK, 50, NULL);
}

static int
act_block_status (void)
{
  return relay_block_status (relay, BYTES, 0, stop_at_once, NULL, NULL);
}

static int
act_flush (void)
{
  uint64_t seen = owed_error_seen (&owed);

  return relay_flush (relay, &seen, NULL);
}

static int
act_read_back (void)
{
  return relay_read_back (relay, 0, buffer, sizeof buffer - 100, 50);
}

static int (*const acts[]) (void) = {
  act_write, act_read,      act_zero,  act_zero_in_a_block, act_trim,
  act_cache, act_read_back, act_flush, act_block_status,
};

static bool
is_lack (int error)
{
  return error == ENOMEM || error == EAGAIN || error == EMFILE;
}

/* False: no call is the n-th. */
static bool
act_without (int (*act) (void), unsigned long n)
{
  int r;

  failing_arm (n, false);
  r = act ();
  failing_disarm ();
  CU_ASSERT (r == 0 || (failing.failed > 0 && is_lack (errno)));
  CU_ASSERT_EQUAL (act (), 0); /* the range is free */
  return failing.failed > 0;
}

static void
run_requests (void)
{
  for (size_t i = 0; i < sizeof acts / sizeof acts[0]; ++i)
    for (unsigned long n = 0; act_without (acts[i], n); ++n)
      ;
  CU_ASSERT_EQUAL (act_write (), 0);
  expect_byte (49, FILL);
  expect_byte (50, 'w');
}

static void
test_requests (void)
{
  struct relay_options o = new_options ();

  begin ("minimum=4096 maximum=8192 fua=0", &o);
  run_requests ();
  end ();
}

/* With a limit each is begun by another thread, with data of its own. */
static void
test_requests_with_limit (void)
{
  struct relay_options o = new_options ();

  o.request_limit_ms = 600000;
  for (size_t i = 0; i < sizeof acts / sizeof acts[0]; ++i) {
    begin ("minimum=4096 maximum=8192", &o);
    for (unsigned long n = 0; act_without (acts[i], n); ++n) {
      relay_close (relay); /* the next one has no thread yet */
      open_relay (&o);
    }
    end ();
  }
}

/* What the server answers is heard behind a limit as well. */
static void
test_errors_with_limit (void)
{
  struct relay_options o = new_options ();
  uint8_t byte;

  o.request_limit_ms = 600000;
  begin ("--filter=error error-pread=EPERM error-pread-rate=1", &o);
  CU_ASSERT_EQUAL (relay_read (relay, &byte, 1, 0, NULL), -1);
  CU_ASSERT_EQUAL (errno, EPERM);
  end ();
}

/* Without descriptors some sockets are missing, and that can be told. */
static void
test_sockets (void)
{
  struct relay_options o = new_options ();
  int fds[2];

  begin (NULL, &o);
  failing_arm (0, true);
  CU_ASSERT_EQUAL (relay_sockets (relay, fds, 2), 0);
  CU_ASSERT_EQUAL (errno, EMFILE);
  failing_disarm ();
  CU_ASSERT_EQUAL (relay_sockets (relay, fds, 2), 1);
  CU_ASSERT_EQUAL (errno, 0);
  close (fds[0]);
  end ();
}

/* What was not asked has not answered. */
static void
test_probe (void)
{
  struct relay_options o = new_options ();
  int64_t silent_ms;
  bool begun;

  begin (NULL, &o);
  failing_arm_calls ("malloc", false, 0, false);
  CU_ASSERT_EQUAL (relay_probe (relay, 30000, NULL, &begun, &silent_ms),
                   RELAY_AWAY);
  failing_disarm ();
  CU_ASSERT (begun);
  CU_ASSERT_EQUAL (relay_probe (relay, 30000, NULL, &begun, &silent_ms),
                   RELAY_ANSWERS);
  end ();
}

/* ---- A limit, and no threads -------------------------------------------- */

/* The server keeps the first write that begins with 'S' until the cue. */
static char cue[64], cue_done[80];

static void
begin_dawdling (const struct relay_options *o)
{
  char args[128];

  server_init (&server, BYTES, FILL);
  snprintf (cue, sizeof cue, "%.40s/cue", server.dir);
  snprintf (cue_done, sizeof cue_done, "%s.done", cue);
  snprintf (args, sizeof args, "dawdle=%s", cue);
  server_start (&server, args);
  open_relay (o);
}

static void
give_cue (void)
{
  close (open (cue, O_WRONLY | O_CREAT, 0600));
}

static void
end_dawdling (void)
{
  relay_close (relay);
  relay = NULL;
  unlink (cue);
  unlink (cue_done);
  server_destroy (&server);
}

static int
write_byte (uint8_t byte, uint64_t offset)
{
  uint8_t block[BLOCK];

  memset (block, byte, sizeof block);
  return relay_write (relay, block, sizeof block, offset, 0, NULL);
}

static bool
is_not_late (void)
{
  return relay_late_ms (relay) == 0;
}

/* R17: a write that the guest was told has failed, before any thread took it
 * up, is never begun.
 */
static void
test_limit (void)
{
  struct relay_options o = new_options ();

  o.request_limit_ms = 500;
  begin_dawdling (&o);
  CU_ASSERT_EQUAL (write_byte ('S', 0), -1);
  CU_ASSERT_EQUAL (errno, EIO);
  failing_arm_calls ("pthread_create", false, 0, true);
  CU_ASSERT_EQUAL (write_byte ('x', BLOCK), -1);
  CU_ASSERT_EQUAL (errno, EIO);
  CU_ASSERT_EQUAL (relay_zero (relay, BLOCK, 2 * BLOCK, 0, NULL), -1);
  CU_ASSERT_EQUAL (relay_trim (relay, BLOCK, 2 * BLOCK, 0, NULL), -1);
  CU_ASSERT_EQUAL (failing.failed, 3);
  failing_disarm ();
  give_cue ();
  wait_until (is_not_late);
  expect_byte (0, 'S');
  expect_byte (BLOCK, FILL);
  expect_byte (2 * BLOCK, FILL);

  relay_stop (relay);
  CU_ASSERT_EQUAL (write_byte ('x', BLOCK), -1);
  CU_ASSERT_EQUAL (errno, ESHUTDOWN);
  end_dawdling ();
}

static bool
is_in_flight (void)
{
  return status ().requests_in_flight > 0;
}

static bool
leaves_then (void *opaque)
{
  (void)opaque;
  return !is_in_flight ();
}

/* Who does not wait any more leaves before the limit. */
static void
test_limit_and_nobody (void)
{
  const struct relay_waiter gone = { leaves_then, NULL };
  struct relay_options o = new_options ();
  uint8_t block[BLOCK] = { 'S' };

  o.request_limit_ms = 600000;
  begin_dawdling (&o);
  CU_ASSERT_EQUAL (relay_write (relay, block, BLOCK, 0, 0, &gone), -1);
  CU_ASSERT_EQUAL (errno, ESHUTDOWN);
  CU_ASSERT (relay_late_ms (relay) > 0);
  give_cue ();
  wait_until (is_not_late);
  expect_byte (0, 'S');
  end_dawdling ();
}

/* ---- Unknown outcomes --------------------------------------------------- */

/* Its allocations fail from the n-th on, or the n-th alone. */
struct writing {
  unsigned long n;
  bool lasts;
  int result;
};

static _Atomic bool write_is_over;

static void *
write_without (void *opaque)
{
  struct writing *w = opaque;

  failing_arm_calls ("malloc", false, w->n, w->lasts);
  w->result = write_byte ('S', 0);
  atomic_store (&write_is_over, true);
  return NULL;
}

/* How many allocations there are depends on who notices the loss first. */
static bool
has_failed_or_ended (void)
{
  return has_failed () || atomic_load (&write_is_over);
}

/* A write that may still land; the destination is gone for good. */
static void
begin_unknown (pthread_t *thread, struct writing *w)
{
  struct relay_options o = new_options ();

  o.reconnect_ms = 100;
  begin_dawdling (&o);
  atomic_store (&write_is_over, false);
  pthread_create (thread, NULL, write_without, w);
  wait_until (is_in_flight);
  server_stop (&server, SIGKILL);
}

static void
count (void *opaque, uint64_t offset, uint64_t length, int64_t left_ms)
{
  (void)left_ms;
  CU_ASSERT (offset == 0 && length == BLOCK);
  ++*(unsigned *)opaque;
}

static unsigned
unknown_ranges (void)
{
  unsigned n = 0;

  relay_unknown (relay, count, &n);
  return n;
}

static bool
is_mended (void)
{
  return unknown_ranges () == 0;
}

/* R17: without memory for what has to be repaired the guest waits. */
static void
run_mend (unsigned long n, bool lasts)
{
  struct writing w = { .n = n, .lasts = lasts };
  pthread_t thread;

  begin_unknown (&thread, &w);
  wait_until (lasts ? has_failed_often : has_failed_or_ended);
  failing_disarm ();
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (w.result, -1);
  CU_ASSERT_EQUAL (unknown_ranges (), 1);

  /* Nor is there any for a look at what is there. */
  failing_arm_calls ("malloc", true, 0, lasts);
  server_start (&server, NULL);
  wait_until (is_up);
  wait_until (is_mended);
  failing_disarm ();
  expect_byte (0, 'S');
  end_dawdling ();
}

static void
test_mend (void)
{
  run_mend (0, true);
  run_mend (0, false);
  run_mend (1, false);
}

/* One that was repeated with success waits for memory, too: others have to wait
 * for it.
 */
static void
test_suspect (void)
{
  struct writing w = { .lasts = true };
  struct relay_options o = new_options ();
  pthread_t thread;

  begin_dawdling (&o);
  pthread_create (&thread, NULL, write_without, &w);
  wait_until (is_in_flight);
  server_stop (&server, SIGKILL);
  server_start (&server, NULL);
  wait_until (has_failed_often);
  failing_disarm ();
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (w.result, 0);
  expect_byte (0, 'S');
  end_dawdling ();
}

struct rest_left {
  bool called;
  unsigned grace_ms;
  size_t nr_entries;
  bool has_entries;
};

static void
note_rest (void *opaque, const struct relay_rest *rest)
{
  *(struct rest_left *)opaque = (struct rest_left){
    .called = true,
    .grace_ms = rest->grace_ms,
    .nr_entries = rest->nr_entries,
    .has_entries = rest->entries != NULL,
  };
}

/* R17: a proxy that stops without memory ends all the same, and the next one is
 * told that something may land.
 */
static void
test_stop_without (void)
{
  struct rest_left left = { .called = false };
  struct writing w = { .lasts = true };
  pthread_t thread;

  begin_unknown (&thread, &w);
  wait_until (has_failed_often);
  relay_stop (relay);
  pthread_join (thread, NULL);
  failing_disarm ();
  CU_ASSERT_EQUAL (w.result, -1);
  relay_close_keeping (relay, note_rest, &left);
  CU_ASSERT_TRUE (left.called);
  CU_ASSERT (left.grace_ms > 0);
  unlink (cue);
  server_destroy (&server);
  relay = NULL;
}

/* ---- What is left ------------------------------------------------------- */

/* So is one that is told of what it would have repeated. */
static void
test_stop_before_mend (void)
{
  struct rest_left left = { .called = false };
  struct writing w = { .n = 1000 };
  pthread_t thread;

  begin_unknown (&thread, &w);
  pthread_join (thread, NULL);
  failing_disarm ();
  CU_ASSERT_EQUAL (w.result, -1);
  CU_ASSERT_EQUAL (unknown_ranges (), 1);
  relay_close_keeping (relay, note_rest, &left);
  CU_ASSERT_TRUE (left.called);
  CU_ASSERT (left.grace_ms > 0);
  unlink (cue);
  server_destroy (&server);
  relay = NULL;
}

/* How much it is can be said without a list of it. */
static void
test_rest (void)
{
  struct rest_left left = { .called = false };
  struct relay_options o = new_options ();

  begin (NULL, &o);
  CU_ASSERT_EQUAL (write_byte ('k', 0), 0);
  server_stop (&server, SIGKILL);
  wait_until (is_down);
  failing_arm_calls ("calloc", false, 0, true);
  relay_close_keeping (relay, note_rest, &left);
  failing_disarm ();
  CU_ASSERT_TRUE (left.called);
  CU_ASSERT_EQUAL (left.nr_entries, 1);
  CU_ASSERT_FALSE (left.has_entries);
  relay = NULL;
  end ();
}

/* A relay that is closed while it still waits for what an earlier one has sent
 * leaves all of it to the next.
 */
static void
test_rest_again (void)
{
  static const uint8_t data[BLOCK] = { 'r' };
  const struct relay_entry entry = {
    .kind = RELAY_ENTRY_WRITE,
    .length = BLOCK,
    .data = data,
  };
  struct relay_rest rest = {
    .entries = &entry,
    .nr_entries = 1,
    .grace_ms = 3600 * 1000,
  };
  struct rest_left left = { .called = false };
  struct relay_options o = new_options ();

  o.rest = &rest;
  begin (NULL, &o);
  relay_close_keeping (relay, note_rest, &left);
  CU_ASSERT_TRUE (left.called);
  CU_ASSERT_EQUAL (left.nr_entries, 1);
  CU_ASSERT (left.grace_ms > 0 && left.grace_ms <= rest.grace_ms);

  /* Without writes, too. */
  rest.nr_entries = 0;
  left.called = false;
  open_relay (&o);
  relay_close_keeping (relay, note_rest, &left);
  CU_ASSERT_TRUE (left.called);
  CU_ASSERT (left.grace_ms > 0 && left.grace_ms <= rest.grace_ms);

  /* It is lost while it waits. */
  rest.nr_entries = 1;
  rest.grace_ms = 2000;
  open_relay (&o);
  server_stop (&server, SIGKILL);
  server_start (&server, NULL);
  wait_until (is_up);
  expect_byte (0, 'r');
  end ();
}

static char log_path[64];

static bool
is_write_logged (void)
{
  return logged (log_path, " Write id=") > 0;
}

/* What the destination refuses is refused, whether that can be said or not. */
static void
test_rest_refused (void)
{
  static const uint8_t data[BLOCK] = { 'r' };
  const struct relay_entry entry = {
    .kind = RELAY_ENTRY_WRITE,
    .length = BLOCK,
    .data = data,
  };
  const struct relay_rest rest = { .entries = &entry, .nr_entries = 1 };
  struct relay_options o = new_options ();
  struct rest_left left = { .called = false };

  o.rest = &rest;
  failing_arm_calls ("asprintf", true, 0, true);
  begin ("refuse-writes=1", &o);
  wait_until (has_failed);
  failing_disarm ();
  CU_ASSERT_FALSE (is_up ());
  relay_close_keeping (relay, note_rest, &left);
  CU_ASSERT_EQUAL (left.nr_entries, 1);
  relay = NULL;
  end ();
}

/* R17: without memory for what was sent again and not answered all of it may
 * land: nothing is sent again before it cannot.
 */
static void
run_replay (bool closes)
{
  struct rest_left left = { .called = false };
  struct relay_options o = new_options ();
  char args[256];

  o.grace_ms = 300;
  begin (NULL, &o);
  snprintf (cue, sizeof cue, "%.40s/cue", server.dir);
  snprintf (log_path, sizeof log_path, "%.40s/log", server.dir);
  snprintf (args, sizeof args, "--filter=log logfile=%s dawdle=%s", log_path,
            cue);
  CU_ASSERT_EQUAL (write_byte ('S', 0), 0);
  server_stop (&server, SIGKILL);
  wait_until (is_down);
  server_start (&server, args);
  wait_until (is_write_logged);
  failing_arm_calls ("malloc", true, 0, true);
  server_stop (&server, SIGKILL);
  wait_until (has_failed);
  failing_disarm ();
  if (closes) { /* so does the next relay */
    relay_close_keeping (relay, note_rest, &left);
    CU_ASSERT (left.called && left.nr_entries == 1 && left.grace_ms > 0);
    relay = NULL;
  }
  else {
    server_start (&server, NULL);
    wait_until (is_up);
    CU_ASSERT_EQUAL (unknown_ranges (), 0);
    expect_byte (0, 'S');
  }
  unlink (log_path);
  end ();
}

static void
test_replay (void)
{
  run_replay (false);
  run_replay (true);
}

/* ---- The relay's own threads -------------------------------------------- */

static void
ignore (void *opaque, bool good, const char *text)
{
  (void)opaque;
  (void)good;
  (void)text;
}

/* Which of them is made before it is up again depends on who is first. */
static bool
has_failed_or_is_up (void)
{
  return has_failed () || is_up ();
}

static bool
has_failed_thrice (void)
{
  return __atomic_load_n (&failing.failed, __ATOMIC_ACQUIRE) > 3 || is_up ();
}

/* It does so, too, when what was lacking for long is there again: memory to
 * look whether it is the disk, to connect at all, or for what would be said.
 */
static void
test_back_at_last (void)
{
  static const char *const calls[] = { "malloc", "calloc",   "pthread_create",
                                       "strdup", "asprintf", "vasprintf" };
  struct relay_options o = new_options ();

  o.reconnect_ms = 100;
  o.notice = ignore;
  begin (NULL, &o);
  CU_ASSERT_EQUAL (write_byte ('z', 8 * BLOCK), 0);
  CU_ASSERT_EQUAL (relay_flush (relay, NULL, NULL), 0);
  for (size_t i = 0; i < sizeof calls / sizeof calls[0]; ++i) {
    CU_ASSERT_EQUAL (write_byte ('a' + i, 0), 0);
    failing_arm_calls (calls[i], true, 0, true);
    server_stop (&server, SIGKILL);
    wait_until (is_down);
    if (i != 0)
      wait_until (is_failing);
    server_start (&server, NULL);
    wait_until (i < 3 ? has_failed_thrice : has_failed_or_is_up);
    failing_disarm ();
    wait_until (is_up);
    expect_byte (0, 'a' + i);
  }
  end ();
}

static bool
are_two (void)
{
  return status ().connections == 2;
}

/* A further connection is made when there is memory for it. */
static void
test_further_at_last (void)
{
  struct relay_options o = new_options ();

  o.connections = 2;
  failing_arm_calls ("strdup", true, 0, true);
  begin (NULL, &o);
  wait_until (has_failed);
  failing_disarm ();
  wait_until (are_two);
  end ();
}

/* The destination comes back, whichever of their calls fails meanwhile. */
static void
test_back (void)
{
  struct relay_options o = new_options ();

  o.connections = 2;
  o.reconnect_ms = 8000; /* then it tries twice a second at least */
  o.notice = ignore;
  begin (NULL, &o);
  CU_ASSERT_EQUAL (write_byte ('z', 8 * BLOCK), 0);
  CU_ASSERT_EQUAL (relay_flush (relay, NULL, NULL), 0); /* it is a witness */
  for (unsigned long n = 0; n < 24; ++n) {
    CU_ASSERT_EQUAL (write_byte ('a' + n % 26, 0), 0);
    server_stop (&server, SIGKILL);
    failing_arm_calls (NULL, true, n, false);
    server_start (&server, NULL);
    expect_byte (0, 'a' + n % 26);
    failing_disarm ();
    CU_ASSERT_EQUAL (relay_flush (relay, NULL, NULL), 0);
  }
  end ();
}

/* ---- Another address ---------------------------------------------------- */

static struct server other;

static int
act_move (void)
{
  struct remote_peer peer;
  int r = relay_move (relay, other.uri, NULL, &peer, &why);

  free (why);
  why = NULL;
  return r;
}

static void
start_other (const char *socket, const char *args)
{
  other = server;
  snprintf (other.socket, sizeof other.socket, "%.40s/%s", server.dir, socket);
  snprintf (other.uri, sizeof other.uri, "nbd+unix:///?socket=%s",
            other.socket);
  server_start (&other, args);
}

static void
stop_other (void)
{
  server_stop (&other, SIGKILL);
  unlink (other.socket);
}

/* Where it cannot be gone to nothing changes; where it was prepared to go it is
 * gone to, once that is said, or not.
 */
static void
test_move (void)
{
  struct relay_options o = new_options ();
  struct server second;

  begin ("minimum=512", &o);
  CU_ASSERT_EQUAL (relay_hold (relay), -1);
  CU_ASSERT_EQUAL (write_byte ('m', 0), 0);
  server_stop (&server, SIGKILL);
  wait_until (is_down);
  CU_ASSERT_EQUAL (relay_hold (relay), 0);
  CU_ASSERT_EQUAL (relay_hold (relay), 0);
  CU_ASSERT_TRUE (status ().held);

  start_other ("t", "minimum=4096");
  CU_ASSERT_EQUAL (act_move (), -1);
  failing_arm_calls ("asprintf", false, 0, true);
  CU_ASSERT_EQUAL (act_move (), -1);
  failing_disarm ();
  stop_other ();
  CU_ASSERT_EQUAL (act_move (), -1);

  start_other ("u", "minimum=512");
  for (unsigned long n = 0;; ++n) {
    failing_arm (n, false);
    const int r = act_move ();

    failing_disarm ();
    CU_ASSERT (r == 0 || failing.failed > 0);
    if (r == 0)
      break;
  }
  CU_ASSERT_EQUAL (act_move (), 0); /* it is prepared */
  relay_unhold (relay, false);
  CU_ASSERT_FALSE (status ().held);
  CU_ASSERT_FALSE (status ().up);

  CU_ASSERT_EQUAL (relay_hold (relay), 0);
  CU_ASSERT_EQUAL (act_move (), 0);
  second = other;
  start_other ("v", "minimum=512");
  CU_ASSERT_EQUAL (act_move (), 0); /* instead */
  relay_unhold (relay, true);
  wait_until (is_up);
  expect_byte (0, 'm');
  relay_unhold (relay, true); /* it is not held */
  CU_ASSERT_TRUE (status ().up);
  relay_close (relay);
  relay = NULL;
  stop_other ();
  other = second;
  stop_other ();
  end ();
}

static bool
is_silent (void)
{
  return status ().silent_ms >= 300;
}

static void *
write_slowly (void *opaque)
{
  *(int *)opaque = write_byte ('h', 0);
  return NULL;
}

/* One that is connected and silent can be held, and goes on where it is. */
static void
test_hold_silent (void)
{
  struct relay_options o = new_options ();
  pthread_t thread;
  int result = -2;

  o.silent_ms = 100;
  begin (NULL, &o);
  server_signal (&server, SIGSTOP);
  pthread_create (&thread, NULL, write_slowly, &result);
  wait_until (is_silent);
  CU_ASSERT_EQUAL (relay_hold (relay), 0);
  CU_ASSERT_TRUE (status ().held);
  server_signal (&server, SIGCONT);
  relay_unhold (relay, false);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (result, 0);
  expect_byte (0, 'h');
  CU_ASSERT_EQUAL (status ().losses, 0);
  end ();
}

/* It can be closed while it is held. */
static void
test_close_held (void)
{
  struct relay_options o = new_options ();

  begin (NULL, &o);
  server_stop (&server, SIGKILL);
  wait_until (is_down);
  CU_ASSERT_EQUAL (relay_late_ms (relay), 0); /* nothing was written */
  CU_ASSERT_EQUAL (relay_hold (relay), 0);
  start_other ("t", NULL);
  CU_ASSERT_EQUAL (act_move (), 0);
  relay_close (relay);
  relay = NULL;
  stop_other ();
  end ();
}

/* ---- A look over one connection ----------------------------------------- */

static void *
read_back_lost (void *opaque)
{
  uint8_t byte;

  errno = 0;
  relay_read_back (relay, 0, &byte, 1, 7);
  *(int *)opaque = errno;
  return NULL;
}

static void
test_read_back (void)
{
  struct relay_options o = new_options ();
  pthread_t thread;
  uint8_t byte;
  int error;

  begin ("--filter=error error-pread=EPERM error-pread-rate=1", &o);
  CU_ASSERT_EQUAL (relay_read_back (relay, 0, &byte, 1, 7), -1);
  CU_ASSERT_EQUAL (errno, EPERM);
  CU_ASSERT_EQUAL (relay_read_back (relay, 1, &byte, 1, 7), -1);
  CU_ASSERT_EQUAL (errno, ENOTCONN);
  server_stop (&server, SIGKILL);
  CU_ASSERT_EQUAL (relay_read_back (relay, 0, &byte, 1, 7), -1);
  CU_ASSERT_EQUAL (errno, ENOTCONN);
  wait_until (is_down);
  CU_ASSERT_EQUAL (relay_read_back (relay, 0, &byte, 1, 7), -1);
  CU_ASSERT_EQUAL (errno, ENOTCONN);
  end ();

  /* It is lost meanwhile. */
  begin ("--filter=delay rdelay=3600", &o);
  pthread_create (&thread, NULL, read_back_lost, &error);
  wait_until (is_in_flight);
  server_stop (&server, SIGKILL);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (error, ENOTCONN);
  end ();
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "opening", test_open },
    { "requests", test_requests },
    { "requests with a limit", test_requests_with_limit },
    { "errors with a limit", test_errors_with_limit },
    { "sockets", test_sockets },
    { "a round trip", test_probe },
    { "a limit, and no threads", test_limit },
    { "a limit, and nobody waits", test_limit_and_nobody },
    { "a repair", test_mend },
    { "a repetition", test_suspect },
    { "a stop, and something may land", test_stop_without },
    { "a stop before a repair", test_stop_before_mend },
    { "what is left", test_rest },
    { "what was left, again", test_rest_again },
    { "what was left is refused", test_rest_refused },
    { "a replay", test_replay },
    { "coming back", test_back },
    { "coming back at last", test_back_at_last },
    { "a further connection at last", test_further_at_last },
    { "another address", test_move },
    { "held while it is silent", test_hold_silent },
    { "closed while it is held", test_close_held },
    { "a look over one connection", test_read_back },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("relay whose calls fail", tests);
}
