/* SPDX-License-Identifier: BSD-3-Clause */
/* A round trip tells a destination that answers from one that is only
 * connected, and from one that has gone; what is unanswered keeps its buffers,
 * and keeps nobody waiting for longer than asked.
 */

#include <pthread.h>

#include "relay/owed-error.h"
#include "relay/relay.h"
#include "server.h"
#include "unit.h"

#define BYTES 1048576

static struct owed_error owed;

static struct relay *
open_relay (const struct server *s, unsigned connections)
{
  struct relay_options o = RELAY_OPTIONS_DEFAULT;
  struct relay_status st;
  unsigned tries = SERVER_TRIES;
  struct relay *r;
  char *why;

  owed_error_init (&owed, false, NULL, NULL);
  o.owed = &owed;
  o.disk_bytes = BYTES;
  o.connections = connections;
  r = relay_open (s->uri, &o, NULL, &why);
  CU_ASSERT_PTR_NOT_NULL_FATAL (r);
  do {
    server_pause ();
    relay_get_status (r, &st);
  } while (st.connections != connections && --tries > 0);
  CU_ASSERT_EQUAL (st.connections, connections);
  return r;
}

/* Until it is so: an upper bound for what takes no certain time. */
static bool
becomes (struct relay *r, enum relay_probe expected)
{
  int64_t silent_ms;
  bool begun;

  for (unsigned tries = SERVER_TRIES; tries > 0; --tries) {
    if (relay_probe (r, 100, NULL, &begun, &silent_ms) == expected)
      return true;
    server_pause ();
  }
  return false;
}

static bool
nobody_waits (void *opaque)
{
  (void)opaque;
  return false;
}

static void
test_answers (void)
{
  static const char *const servers[] = { NULL, "minimum=4096 maximum=8192",
                                         "multi-conn=0",
                                         "--filter=error error-rate=1" };
  struct server s;
  struct relay *r;
  int64_t silent_ms;
  bool begun;

  for (unsigned i = 0; i < sizeof servers / sizeof servers[0]; ++i) {
    const bool one = servers[i] != NULL && strstr (servers[i], "multi") != NULL;

    server_init (&s, BYTES, 0);
    server_start (&s, servers[i]);
    r = open_relay (&s, one ? 1 : 3);
    CU_ASSERT_EQUAL (relay_probe (r, 30000, NULL, &begun, &silent_ms),
                     RELAY_ANSWERS);
    CU_ASSERT_EQUAL (silent_ms, 0);
    CU_ASSERT (becomes (r, RELAY_ANSWERS));
    relay_close (r);
    server_destroy (&s);
  }
}

static void
test_silent (void)
{
  const struct relay_waiter gone = { nobody_waits, NULL };
  int64_t silent_ms, before;
  bool begun;
  struct server s;
  struct relay *r;

  server_init (&s, BYTES, 0);
  server_start (&s, NULL);
  r = open_relay (&s, 3);
  server_signal (&s, SIGSTOP);
  CU_ASSERT_EQUAL (relay_probe (r, 0, NULL, &begun, &silent_ms), RELAY_SILENT);
  CU_ASSERT_TRUE (begun);
  CU_ASSERT_EQUAL (relay_probe (r, 100, NULL, &begun, &silent_ms),
                   RELAY_SILENT);
  CU_ASSERT_FALSE (begun);
  CU_ASSERT (silent_ms >= 100);
  before = silent_ms;
  CU_ASSERT_EQUAL (relay_probe (r, 100, NULL, &begun, &silent_ms),
                   RELAY_SILENT);
  CU_ASSERT (silent_ms >= before + 100); /* the same one */
  CU_ASSERT_EQUAL (relay_probe (r, 3600000, &gone, &begun, &silent_ms),
                   RELAY_SILENT);
  server_signal (&s, SIGCONT);
  CU_ASSERT_EQUAL (relay_probe (r, 30000, NULL, &begun, &silent_ms),
                   RELAY_ANSWERS);
  CU_ASSERT_EQUAL (relay_probe (r, 30000, NULL, &begun, &silent_ms),
                   RELAY_ANSWERS);
  CU_ASSERT_TRUE (begun);

  /* It can be closed all the same. */
  server_signal (&s, SIGSTOP);
  CU_ASSERT_EQUAL (relay_probe (r, 0, NULL, &begun, &silent_ms), RELAY_SILENT);
  relay_close (r);
  server_destroy (&s);
}

static void
test_away (void)
{
  int64_t silent_ms;
  bool begun;
  struct server s;
  struct relay *r;

  server_init (&s, BYTES, 0);
  server_start (&s, NULL);
  r = open_relay (&s, 3);
  server_signal (&s, SIGSTOP);
  CU_ASSERT_EQUAL (relay_probe (r, 0, NULL, &begun, &silent_ms), RELAY_SILENT);
  server_stop (&s, SIGKILL);
  CU_ASSERT (becomes (r, RELAY_AWAY));
  server_start (&s, NULL);
  CU_ASSERT (becomes (r, RELAY_ANSWERS));
  relay_close (r);
  server_destroy (&s);
}

struct prober {
  struct relay *relay;
  enum relay_probe found;
  bool begun;
};

static void *
probe_for_long (void *opaque)
{
  struct prober *p = opaque;
  int64_t silent_ms;

  p->found = relay_probe (p->relay, 3600000, NULL, &p->begun, &silent_ms);
  return NULL;
}

/* Who comes while another one waits is told how it stands; and one that is
 * stopped asks nobody.
 */
static void
test_two (void)
{
  struct prober one;
  pthread_t thread;
  struct relay_status st;
  int64_t silent_ms;
  bool begun;
  struct server s;

  server_init (&s, BYTES, 0);
  server_start (&s, NULL);
  one = (struct prober){ .relay = open_relay (&s, 1) };
  server_signal (&s, SIGSTOP);
  pthread_create (&thread, NULL, probe_for_long, &one);
  do {
    server_pause ();
    relay_get_status (one.relay, &st);
  } while (st.requests_in_flight == 0);
  CU_ASSERT_EQUAL (relay_probe (one.relay, 3600000, NULL, &begun, &silent_ms),
                   RELAY_SILENT);
  CU_ASSERT_FALSE (begun);
  server_signal (&s, SIGCONT);
  pthread_join (thread, NULL);
  CU_ASSERT_EQUAL (one.found, RELAY_ANSWERS);
  CU_ASSERT_TRUE (one.begun);
  relay_close (one.relay);

  one.relay = open_relay (&s, 1);
  relay_stop (one.relay);
  CU_ASSERT_EQUAL (relay_probe (one.relay, 3600000, NULL, &begun, &silent_ms),
                   RELAY_AWAY);
  CU_ASSERT_FALSE (begun);
  relay_close (one.relay);
  server_destroy (&s);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "one that answers", test_answers },
    { "one that is stopped", test_silent },
    { "one that has gone", test_away },
    { "two who ask", test_two },
    CU_TEST_INFO_NULL,
  };

  signal (SIGPIPE, SIG_IGN);
  return unit_main ("relay-probe", tests);
}
