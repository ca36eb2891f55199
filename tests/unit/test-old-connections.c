/* SPDX-License-Identifier: BSD-3-Clause */
/* Connections that a session has left with writes unanswered (R17).  The peer,
 * a server, is the test.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "export/old-connections.h"
#include "unit.h"

static struct old_connections old;

static int64_t
ago_us (int64_t us)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * INT64_C (1000000) + ts.tv_nsec / 1000 - us;
}

/* [0] is ours. */
static void
unix_pair (int v[2])
{
  CU_ASSERT_EQUAL_FATAL (socketpair (AF_UNIX, SOCK_STREAM, 0, v), 0);
}

static void
tcp_pair (int v[2])
{
  struct sockaddr_in addr = {
    .sin_family = AF_INET,
    .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
  };
  static const int small = 16384; /* the window of the peer */
  socklen_t size = sizeof addr;
  const int listener = socket (AF_INET, SOCK_STREAM, 0);

  v[0] = socket (AF_INET, SOCK_STREAM, 0);
  setsockopt (listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  CU_ASSERT_EQUAL_FATAL (bind (listener, (struct sockaddr *)&addr, size), 0);
  CU_ASSERT_EQUAL_FATAL (listen (listener, 1), 0);
  getsockname (listener, (struct sockaddr *)&addr, &size);
  CU_ASSERT_EQUAL_FATAL (connect (v[0], (struct sockaddr *)&addr, size), 0);
  v[1] = accept (listener, NULL, NULL);
  CU_ASSERT_NOT_EQUAL_FATAL (v[1], -1);
  close (listener);
}

/* Whether the peer sees the end of what we send. */
static bool
is_shut (int peer)
{
  char c;

  return recv (peer, &c, 1, MSG_DONTWAIT) == 0;
}

static bool
look (uint64_t *delay_ms)
{
  return old_connections_look (&old, delay_ms);
}

/* A write that was begun 5 s ago is all that is in flight. */
static struct ledger_line
one_write (bool whole)
{
  return (struct ledger_line){ ago_us (5000000), 0, 1, whole, 0, 0 };
}

static void
test_answered (void)
{
  const struct ledger_line nothing = { 0, 99, 1, 1, 0, 0 };
  struct ledger_line line = one_write (true);
  uint64_t delay;
  int v[2];

  /* All were answered: it is of no interest. */
  unix_pair (v);
  CU_ASSERT_EQUAL (old_connections_add (&old, v[0], &nothing, true), 0);
  CU_ASSERT_EQUAL (old.n, 0);
  CU_ASSERT (is_shut (v[1]));
  close (v[1]);

  unix_pair (v);
  CU_ASSERT (old_connections_add (&old, v[0], &line, true) >= 5000);
  CU_ASSERT_FALSE (is_shut (v[1])); /* for servers that close early */
  CU_ASSERT_FALSE (look (&delay));
  CU_ASSERT_EQUAL (old.n, 1);
  CU_ASSERT (old_connections_age_ms (&old) >= 5000);
  CU_ASSERT_EQUAL (send (v[1], "answer", 6, 0), 6);
  CU_ASSERT (look (&delay));
  CU_ASSERT (delay >= 5000 && delay < 600000);
  CU_ASSERT_EQUAL (old.n, 0);
  CU_ASSERT_FALSE (old.doubt);
  CU_ASSERT (is_shut (v[1]));
  CU_ASSERT_EQUAL (old_connections_age_ms (&old), 0);
  close (v[1]);
}

/* Closed without an answer. */
static void
test_gone (void)
{
  struct ledger_line line = one_write (true);
  uint64_t delay;
  int v[2];

  unix_pair (v);
  old_connections_add (&old, v[0], &line, true);
  close (v[1]);
  CU_ASSERT (look (&delay));
  CU_ASSERT (delay >= 5000);
  CU_ASSERT_EQUAL (old.n, 0);
  CU_ASSERT (old.doubt);
  CU_ASSERT_FALSE (look (&delay));
  CU_ASSERT (old.doubt);
  old_connections_settle (&old);
  CU_ASSERT_FALSE (old.doubt);
}

/* Half a request, or somebody who could go on: nothing more is sent. */
static void
test_shut (void)
{
  uint64_t delay;
  int v[2], duplicate;

  for (unsigned i = 0; i < 2; i++) {
    const struct ledger_line line = one_write (i == 0);

    unix_pair (v);
    duplicate = dup (v[0]);
    old_connections_add (&old, v[0], &line, i == 1);
    CU_ASSERT (is_shut (v[1]));
    CU_ASSERT_EQUAL (send (duplicate, "x", 1, MSG_NOSIGNAL), -1);
    CU_ASSERT_FALSE (look (&delay));
    CU_ASSERT_EQUAL (old.n, 1);
    close (v[1]);
    CU_ASSERT (look (&delay));
    CU_ASSERT (old.doubt);
    old_connections_settle (&old);
    close (duplicate);
  }
}

/* What has come tells nothing: only the end is waited for. */
static void
expect_wait_for_end (int peer)
{
  uint64_t delay;

  CU_ASSERT_FALSE (look (&delay));
  CU_ASSERT (is_shut (peer));
  CU_ASSERT_EQUAL (old.n, 1);
  close (peer);
  CU_ASSERT (look (&delay));
  CU_ASSERT (old.doubt);
  old_connections_settle (&old);
}

/* Bytes that may be something else than the answer. */
static void
test_several (void)
{
  struct ledger_line line = one_write (true);
  int v[2];

  line.requests = 2;
  unix_pair (v);
  old_connections_add (&old, v[0], &line, true);
  CU_ASSERT_FALSE (is_shut (v[1]));
  CU_ASSERT_EQUAL (send (v[1], "answer", 6, 0), 6);
  expect_wait_for_end (v[1]);
}

/* From the NBD protocol: a reply to a write, and one to a read, of two chunks.
 * The first has an offset and 20 bytes that look like a reply, the second
 * (done) has no data.
 */
static const uint8_t simple[16] = { 0x67, 0x44, 0x66, 0x98 };
static const uint8_t chunks[] = {
  0x66, 0x8e, 0x33, 0xef, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 28,
  0,    0,    0,    0,    0, 0, 0, 0, /* offset */
  0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
};

/* The same with extended headers: the payload of an answer to a read begins
 * like a header, too.
 */
static const uint8_t extended[] = {
  0x6e, 0x8a, 0x27, 0x8c, 0, 0, 0, 1,  /* magic, flags, type */
  0,    0,    0,    0,    0, 0, 0, 0,  /* cookie */
  0,    0,    0,    0,    0, 0, 0, 0,  /* offset */
  0,    0,    0,    0,    0, 0, 0, 24, /* length */
  0,    0,    0,    0,    0, 0, 0, 0,  /* data, so many bytes */
  0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0, 0,  /* data */
  0,    0,    0,    0,    0, 0, 0, 0,  /* data */
  0x6e, 0x8a, 0x27, 0x8c, 0, 1, 0, 0,  /* the last one */
  0,    0,    0,    0,    0, 0, 0, 0,  /* cookie */
  0,    0,    0,    0,    0, 0, 0, 0,  /* offset */
  0,    0,    0,    0,    0, 0, 0, 0,  /* length */
};

/* Three answers: twice these bytes, with a simple one between them. */
static void
expect_counted (const uint8_t *bytes, size_t n)
{
  struct ledger_line line = one_write (true);
  uint64_t delay;
  int v[2];

  line.requests = 3;
  line.framed = 1;
  unix_pair (v);
  old_connections_add (&old, v[0], &line, true);
  for (size_t i = 0; i < n; i++) {
    CU_ASSERT_EQUAL (send (v[1], bytes + i, 1, 0), 1);
    CU_ASSERT_FALSE (look (&delay));
  }
  CU_ASSERT_EQUAL (send (v[1], simple, sizeof simple, 0), sizeof simple);
  CU_ASSERT_EQUAL (send (v[1], bytes, 30, 0), 30);
  CU_ASSERT_FALSE (look (&delay));
  CU_ASSERT_FALSE (is_shut (v[1]));
  CU_ASSERT_EQUAL (old.n, 1);
  CU_ASSERT_EQUAL (send (v[1], bytes + 30, n - 30, 0), n - 30);
  CU_ASSERT (look (&delay));
  CU_ASSERT (delay >= 5000);
  CU_ASSERT_EQUAL (old.n, 0);
  CU_ASSERT_FALSE (old.doubt);
  close (v[1]);
}

/* They are counted; other answers do not make qemu-nbd close. */
static void
test_counted (void)
{
  expect_counted (chunks, sizeof chunks);
}

static void
test_counted_extended (void)
{
  expect_counted (extended, sizeof extended);
}

/* What cannot be counted. */
static void
test_no_replies (void)
{
  struct ledger_line line = one_write (true);
  int v[2];

  line.requests = 2;
  line.framed = 1;
  unix_pair (v);
  old_connections_add (&old, v[0], &line, true);
  CU_ASSERT_EQUAL (send (v[1], simple + 1, 15, 0), 15);
  CU_ASSERT_EQUAL (send (v[1], simple, sizeof simple, 0), sizeof simple);
  expect_wait_for_end (v[1]);
}

/* Somebody may have sent more after the line was read. */
static void
test_not_alone (void)
{
  for (unsigned framed = 0; framed < 2; framed++) {
    struct ledger_line line = one_write (true);
    int v[2];

    line.framed = framed;
    unix_pair (v);
    old_connections_add (&old, v[0], &line, false);
    CU_ASSERT_EQUAL (send (v[1], simple, sizeof simple, 0), sizeof simple);
    expect_wait_for_end (v[1]);
  }
}

/* What waits in the queue does not follow. */
static void
test_queue (void)
{
  static const char data[65536];
  static char buf[65536];
  struct ledger_line line = one_write (false);
  size_t sent = 0, received = 0;
  ssize_t n;
  int v[2];

  tcp_pair (v);
  fcntl (v[0], F_SETFL, O_NONBLOCK);
  while ((n = send (v[0], data, sizeof data, MSG_NOSIGNAL)) > 0)
    sent += n;
  CU_ASSERT (old_connections_add (&old, v[0], &line, true) >= 5000);
  CU_ASSERT_EQUAL (old.n, 0);
  CU_ASSERT (old.doubt);
  while ((n = recv (v[1], buf, sizeof buf, 0)) > 0)
    received += n;
  CU_ASSERT (received < sent);
  old_connections_settle (&old);
  close (v[1]);
}

/* The oldest are given up for others. */
static void
test_many (void)
{
  const struct ledger_line line = one_write (true);
  int peers[OLD_CONNECTIONS_MAX + 1];
  uint64_t delay;
  int v[2];

  for (unsigned i = 0; i <= OLD_CONNECTIONS_MAX; i++) {
    unix_pair (v);
    CU_ASSERT_EQUAL (old.doubt, false);
    old_connections_add (&old, v[0], &line, true);
    peers[i] = v[1];
  }
  CU_ASSERT_EQUAL (old.n, OLD_CONNECTIONS_MAX);
  CU_ASSERT (old.doubt);
  CU_ASSERT (is_shut (peers[0]));
  CU_ASSERT_FALSE (is_shut (peers[1]));
  old_connections_settle (&old);
  CU_ASSERT (old.doubt); /* some are left */
  old_connections_close (&old);
  CU_ASSERT (is_shut (peers[1]));
  CU_ASSERT_FALSE (look (&delay));
  old_connections_settle (&old);
  for (unsigned i = 0; i <= OLD_CONNECTIONS_MAX; i++)
    close (peers[i]);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "answered", test_answered },
    { "gone without an answer", test_gone },
    { "shut where more could follow", test_shut },
    { "several answers", test_several },
    { "answers are counted", test_counted },
    { "answers with extended headers, too", test_counted_extended },
    { "no replies", test_no_replies },
    { "somebody who may have sent more", test_not_alone },
    { "the queue of a TCP socket", test_queue },
    { "too many", test_many },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("old-connections", tests);
}
