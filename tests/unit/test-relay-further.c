/* SPDX-License-Identifier: BSD-3-Clause */
/* timeout: 120
 *
 * Further connections, behind whose address there may be another server: what
 * offers other things than the first one, or cannot be seen to hold the disk,
 * is not used, and the first one goes on.
 */

#include "relay-unit.h"

#define BYTES 1048576
#define BLOCK 4096

static struct relay_options
new_options (void)
{
  struct relay_options o = default_options (BYTES);

  o.connections = 2;
  return o;
}

/* ---- What differs ------------------------------------------------------- */

static const struct {
  const char *first, *other;
} differences[] = {
  { "", "minimum=512" },
  { "minimum=512", "minimum=1" },
  { "", "maximum=65536" },
  { "", "fua=0" },
  { "", "trim=0" },
  { "", "cache=0" },
  { "", "--no-sr" },
  { "", "multi-conn=0" },
  { "", "--filter=nozero" },
  { "--filter=nozero zeromode=plugin fastzeromode=ignore",
    "--filter=nozero zeromode=plugin fastzeromode=none" },
  { "", NULL }, /* it is larger */
};
#define DIFFERENCES (sizeof differences / sizeof differences[0])

struct pair {
  struct server first, other;
  struct relay *relay;
  char log[64];
};

/* The first one admits one client; whoever looked whether it listens may count
 * for a moment.
 */
static struct relay *
open_relay (const struct server *s)
{
  const struct relay_options o = new_options ();
  unsigned tries = SERVER_TRIES;
  struct relay *r;
  char *why;

  while ((r = relay_open (s->uri, &o, NULL, &why)) == NULL && --tries > 0) {
    free (why);
    server_pause ();
  }
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  return r;
}

static void
begin_pair (struct pair *p, const char *first, const char *other)
{
  char args[256];

  server_init (&p->first, BYTES, 0);
  snprintf (p->log, sizeof p->log, "%.40s/log", p->first.dir);
  snprintf (args, sizeof args, "--filter=limit limit=1 %s", first);
  server_start (&p->first, args);
  p->relay = open_relay (&p->first);

  p->other = p->first;
  snprintf (p->other.file, sizeof p->other.file, "%.40s/other", p->first.dir);
  close (open (p->other.file, O_WRONLY | O_CREAT, 0600));
  CU_ASSERT_EQUAL (truncate (p->other.file, other == NULL ? 2 * BYTES : BYTES),
                   0);
  snprintf (args, sizeof args, "--filter=log logfile=%s %s", p->log,
            other == NULL ? "" : other);
  server_start (&p->other, args);
}

static void
end_pair (struct pair *p)
{
  relay_close (p->relay);
  server_stop (&p->other, SIGKILL);
  unlink (p->other.file);
  unlink (p->log);
  server_destroy (&p->first);
}

/* All at once, as each is tried after seconds. */
static void
test_differ (void)
{
  static struct pair pairs[DIFFERENCES];
  uint8_t block[BLOCK] = { 'd' };

  for (size_t i = 0; i < DIFFERENCES; ++i)
    begin_pair (&pairs[i], differences[i].first, differences[i].other);
  for (size_t i = 0; i < DIFFERENCES; ++i) {
    struct relay *r = pairs[i].relay;

    wait_until_logged (pairs[i].log, "Disconnect", 1);
    CU_ASSERT_EQUAL (relay_write (r, block, BLOCK, 0, 0, NULL), 0);
    CU_ASSERT_EQUAL (status_of (r).connections, 1);
    CU_ASSERT_EQUAL (status_of (r).losses, 0);
    end_pair (&pairs[i]);
  }
}

/* ---- What cannot be read ------------------------------------------------ */

struct said {
  unsigned unknown; /* atomic */
};

static void
note (void *opaque, bool good, const char *text)
{
  struct said *s = opaque;

  if (!good && strstr (text, "a further connection leads to") != NULL &&
      strstr (text, "is not known") != NULL)
    __atomic_fetch_add (&s->unknown, 1, __ATOMIC_SEQ_CST);
}

/* What was flushed cannot be read over a further connection: it is not used,
 * that is said once, and it is tried again.
 */
static void
test_unreadable (void)
{
  struct relay_options o = new_options ();
  char args[320], broken[64], log[64];
  uint8_t block[BLOCK];
  struct said said = { 0 };
  struct server s;
  struct relay *r;
  unsigned before;
  int fd;
  char *why;

  o.notice = note;
  o.opaque = &said;
  memset (block, 'p', sizeof block);
  server_init (&s, BYTES, 0);
  snprintf (broken, sizeof broken, "%.40s/broken", s.dir);
  snprintf (log, sizeof log, "%.40s/log", s.dir);
  snprintf (args, sizeof args,
            "--filter=log logfile=%s --filter=error error-pread-rate=100%% "
            "error-file=%s",
            log, broken);
  server_start (&s, args);
  r = relay_open (s.uri, &o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  wait_until_connections (r, 2);
  CU_ASSERT_EQUAL (relay_write (r, block, BLOCK, 0, 0, NULL), 0);
  CU_ASSERT_EQUAL (relay_flush (r, NULL, NULL), 0);
  before = logged (log, " Connect");
  close (open (broken, O_WRONLY | O_CREAT, 0600));

  /* One of them ends, and has nothing that the other has not. */
  CU_ASSERT_EQUAL_FATAL (relay_sockets (r, &fd, 1), 1);
  shutdown (fd, SHUT_RDWR);
  close (fd);
  wait_until_logged (log, " Connect", before + 3);
  CU_ASSERT_EQUAL (__atomic_load_n (&said.unknown, __ATOMIC_SEQ_CST), 1);
  CU_ASSERT_EQUAL (status_of (r).losses, 0);
  CU_ASSERT_EQUAL (status_of (r).connections, 1);
  unlink (broken);
  wait_until_connections (r, 2);
  relay_close (r);
  unlink (log);
  server_destroy (&s);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "offers other things", test_differ },
    { "cannot be read", test_unreadable },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("relay-further", tests);
}
