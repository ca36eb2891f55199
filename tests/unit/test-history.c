/* SPDX-License-Identifier: BSD-3-Clause */
/* Whether a destination is known again (R18). */

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "state/history-file.h"
#include "state-file.h"
#include "state/history.h"
#include "unit.h"

/* Made below the current directory, which is a temporary one. */
enum { A, B, C, TCP, OTHER_TCP, SERVERS };
static int listeners[SERVERS];
static const char *const paths[SERVERS] = { "a", "b", "c" };

/* Room for every address used here. */
union address {
  struct sockaddr any;
  struct sockaddr_un local;
  struct sockaddr_in tcp;
};

static void
start_local (int server)
{
  union address addr = { .local.sun_family = AF_UNIX };

  strcpy (addr.local.sun_path, paths[server]);
  listeners[server] = socket (AF_UNIX, SOCK_STREAM, 0);
  assert (bind (listeners[server], &addr.any, sizeof addr.local) == 0);
  assert (listen (listeners[server], 1000) == 0);
}

static void
start_tcp (int server)
{
  const union address addr = { .tcp.sin_family = AF_INET,
                               .tcp.sin_addr.s_addr = htonl (INADDR_LOOPBACK) };

  listeners[server] = socket (AF_INET, SOCK_STREAM, 0);
  assert (bind (listeners[server], &addr.any, sizeof addr.tcp) == 0);
  assert (listen (listeners[server], 1000) == 0);
}

/* A connection to the server, by this path if it is a local one. */
static int
connection_by (int server, const char *path)
{
  union address addr = { 0 };
  socklen_t length = sizeof addr;
  int fd;

  assert (getsockname (listeners[server], &addr.any, &length) == 0);
  fd = socket (addr.any.sa_family, SOCK_STREAM, 0);
  if (path != NULL) {
    strcpy (addr.local.sun_path, path);
    length = sizeof addr.local;
  }
  assert (connect (fd, &addr.any, length) == 0);
  return fd;
}

/* A session to the server by this URI, with one connection. */
static enum history_past
meet_by (struct history *h, const char *uri, int server, const char *path)
{
  const int fd = connection_by (server, path);
  const enum history_past past = history_meet (h, uri, &fd, 1);

  close (fd);
  return past;
}

static enum history_past
meet (struct history *h, const char *uri, int server)
{
  return meet_by (h, uri, server, paths[server]);
}

static struct history
new_history (void)
{
  struct history h;

  history_init (&h);
  CU_ASSERT_FALSE (h.complete);
  h.complete = true;
  return h;
}

/* What is found at one server after the other. */
struct meeting {
  const char *uri;
  int server;
  enum history_past past;
};

static void
expect_meetings (const struct meeting *v, size_t n)
{
  struct history h = new_history ();

  for (size_t i = 0; i < n; i++) {
    const enum history_past past = meet (&h, v[i].uri, v[i].server);

    CU_ASSERT_EQUAL (past, v[i].past);
    if (past != v[i].past)
      printf ("\n  meeting %zu, %s: %d\n", i, v[i].uri, (int)past);
  }
  history_destroy (&h);
}

static void
test_first_and_same (void)
{
  static const struct meeting v[] = {
    { "nbd://a", A, PAST_NOTHING },
    { "nbd://a", A, PAST_LATEST },
    { "nbd://b", B, PAST_NOTHING },
    { "nbd://b", B, PAST_LATEST },
  };

  expect_meetings (v, sizeof v / sizeof v[0]);
}

/* W is of the latest one only. */
static void
test_there_and_back (void)
{
  struct history h = new_history ();

  for (int i = 0; i < 3; i++) {
    CU_ASSERT_EQUAL (meet (&h, "nbd://a", A),
                     i == 0 ? PAST_NOTHING : PAST_UNKNOWN);
    CU_ASSERT_EQUAL (meet (&h, "nbd://b", B),
                     i == 0 ? PAST_NOTHING : PAST_UNKNOWN);
    CU_ASSERT_EQUAL (meet (&h, "nbd://b", B), PAST_LATEST);
  }
  CU_ASSERT_EQUAL (meet (&h, "nbd://c", C), PAST_NOTHING);
  CU_ASSERT_EQUAL (h.earlier.n, 4); /* each of them once */
  history_destroy (&h);
}

static void
test_other_spelling (void)
{
  struct history h = new_history ();

  assert (mkdir ("d", 0700) == 0);
  assert (symlink ("a", "link") == 0);
  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_NOTHING);
  CU_ASSERT_EQUAL (meet_by (&h, "nbd://d/../a", A, "d/../a"), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (meet_by (&h, "nbd://d/../a", A, "d/../a"), PAST_LATEST);
  CU_ASSERT_EQUAL (meet_by (&h, "nbd://link", A, "link"), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (meet_by (&h, "nbd://a", B, "b"), PAST_UNKNOWN);
  history_destroy (&h);
}

static void
test_tcp (void)
{
  static const struct meeting v[] = {
    { "nbd://127.0.0.1", TCP, PAST_NOTHING },
    { "nbd://localhost", TCP, PAST_UNKNOWN },
    { "nbd://localhost/export", TCP, PAST_UNKNOWN },
    { "nbd://elsewhere", OTHER_TCP, PAST_NOTHING },
  };

  expect_meetings (v, sizeof v / sizeof v[0]);
}

/* A server that has moved: W is of the old place and the new one. */
static void
test_several_sockets (void)
{
  struct history h = new_history ();
  const int both[2] = { connection_by (A, "a"), connection_by (B, "b") };

  CU_ASSERT_EQUAL (history_meet (&h, "nbd://x", both, 1), PAST_NOTHING);
  CU_ASSERT_EQUAL (history_meet (&h, "nbd://x", both, 2), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (history_meet (&h, "nbd://x", both + 1, 1), PAST_LATEST);
  CU_ASSERT_EQUAL (history_meet (&h, "nbd://x", both, 1), PAST_LATEST);
  CU_ASSERT_EQUAL (meet (&h, "nbd://c", C), PAST_NOTHING);
  CU_ASSERT_EQUAL (meet (&h, "nbd://b", B), PAST_UNKNOWN);
  close (both[0]);
  close (both[1]);
  history_destroy (&h);
}

/* A proxy that was started again. */
static void
test_incomplete (void)
{
  struct history h;

  history_init (&h);
  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_LATEST);
  CU_ASSERT_EQUAL (meet (&h, "nbd://b", B), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (h.earlier.n, 0); /* nothing is kept in vain */
  history_destroy (&h);
}

/* Whoever it was may be the next one. */
static void
test_no_address (void)
{
  struct history h = new_history ();
  int fds[2] = { socket (AF_UNIX, SOCK_STREAM, 0) };

  CU_ASSERT_EQUAL (history_meet (&h, "nbd://a", fds, 1), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (history_meet (&h, "nbd://a", fds, 1), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (meet (&h, "nbd://b", B), PAST_UNKNOWN);
  history_destroy (&h);

  /* Nor does another connection help that has one. */
  h = new_history ();
  fds[1] = connection_by (A, NULL);
  CU_ASSERT_EQUAL (history_meet (&h, "nbd://a", fds, 2), PAST_UNKNOWN);
  CU_ASSERT_FALSE (h.complete);
  close (fds[0]);
  close (fds[1]);
  history_destroy (&h);
}

static bool
is_there (const char *path)
{
  return access (path, F_OK) == 0;
}

/* Through a file: what was the latest is an earlier one. */
static void
test_file (void)
{
  struct history h = new_history (), again;
  char *why;

  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_NOTHING);
  CU_ASSERT_EQUAL (meet (&h, "nbd://b", B), PAST_NOTHING);
  CU_ASSERT_EQUAL (history_write (&h, "./file", true, &why), 0);
  history_init (&again);
  history_read (&again, "file", &why);
  CU_ASSERT_TRUE (again.complete);
  CU_ASSERT_EQUAL (again.latest.n, 0);
  CU_ASSERT_EQUAL (meet (&again, "nbd://c", C), PAST_NOTHING);
  CU_ASSERT_EQUAL (meet_by (&again, "nbd://./b", B, "b"), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (meet (&again, "nbd://a", A), PAST_UNKNOWN);
  history_destroy (&again);

  h.complete = false;
  CU_ASSERT_EQUAL (history_write (&h, "./file", true, &why), 0);
  CU_ASSERT_FALSE (is_there ("file"));
  CU_ASSERT_EQUAL (history_write (&h, "./file", true, &why), 0);
  h.complete = true;
  CU_ASSERT_EQUAL (history_write (&h, "./nowhere/file", false, &why), -1);
  free (why);
  history_destroy (&h);
}

/* Cut anywhere, or with one byte changed to what no file has. */
static void
test_damaged_file (void)
{
  struct history h = new_history ();
  char text[4096], *why;
  size_t length;
  FILE *file;

  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_NOTHING);
  CU_ASSERT_EQUAL (history_write (&h, "./file", false, &why), 0);
  history_destroy (&h);
  file = fopen ("file", "r");
  length = fread (text, 1, sizeof text, file);
  fclose (file);
  for (size_t cut = 0; cut < 2 * length; cut++) {
    file = fopen ("file", "w");
    if (cut < length)
      fwrite (text, 1, cut, file);
    else {
      fwrite (text, 1, cut - length, file);
      putc ("Xx-"[cut % 3], file); /* between the digits, and beside them */
      fwrite (text + (cut - length) + 1, 1, 2 * length - cut - 1, file);
    }
    fclose (file);
    history_init (&h);
    history_read (&h, "file", &why);
    CU_ASSERT_FALSE (h.complete);
    history_destroy (&h);
  }
  assert (remove ("file") == 0);
  history_init (&h);
  history_read (&h, "file", &why);
  CU_ASSERT_FALSE (h.complete);
  history_destroy (&h);
}

static void
test_file_names (void)
{
  char *path = state_file_path ("/d", "history", "");

  CU_ASSERT_STRING_EQUAL (path, "/d/history");
  free (path);
  path = state_file_path ("/d", "history", "a/b");
  CU_ASSERT_STRING_EQUAL (path, "/d/history.a%2Fb");
  free (path);
}

static void
test_unnamed (void)
{
  struct history h = new_history ();
  int pair[2];

  assert (socketpair (AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CU_ASSERT_EQUAL (history_meet (&h, "nbd://a", pair, 1), PAST_NOTHING);
  CU_ASSERT_EQUAL (history_meet (&h, "nbd://b", pair, 1), PAST_UNKNOWN);
  close (pair[0]);
  close (pair[1]);
  history_destroy (&h);
}

/* More than anybody uses: nothing is forgotten without saying so. */
static void
test_many (void)
{
  struct history h = new_history ();
  const int fd = connection_by (B, "b");
  int i;
  char uri[32];

  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_NOTHING);
  for (i = 0; i < 1000; i++) {
    snprintf (uri, sizeof uri, "nbd://b/%d", i);
    CU_ASSERT_EQUAL (history_meet (&h, uri, &fd, 1),
                     i == 0 ? PAST_NOTHING : PAST_UNKNOWN);
  }
  CU_ASSERT_FALSE (h.complete);
  CU_ASSERT (h.earlier.n + h.latest.n < 300);
  CU_ASSERT_EQUAL (meet (&h, "nbd://a", A), PAST_UNKNOWN);
  CU_ASSERT_EQUAL (meet (&h, "nbd://c", C), PAST_UNKNOWN);
  close (fd);
  history_destroy (&h);
}

static void
start_servers (void)
{
  for (int i = 0; i < TCP; i++)
    start_local (i);
  start_tcp (TCP);
  start_tcp (OTHER_TCP);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "first and same", test_first_and_same },
    { "there and back", test_there_and_back },
    { "other spelling", test_other_spelling },
    { "TCP", test_tcp },
    { "several sockets", test_several_sockets },
    { "incomplete", test_incomplete },
    { "no address", test_no_address },
    { "unnamed", test_unnamed },
    { "in a file", test_file },
    { "in a damaged file", test_damaged_file },
    { "names of files", test_file_names },
    { "many", test_many },
    CU_TEST_INFO_NULL,
  };
  char dir[] = "/tmp/test-history-XXXXXX";
  int result;

  assert (mkdtemp (dir) != NULL && chdir (dir) == 0);
  start_servers ();
  result = unit_main ("history", tests);
  for (int i = 0; i < TCP; i++)
    unlink (paths[i]);
  unlink ("link");
  rmdir ("d");
  rmdir (dir);
  return result;
}
