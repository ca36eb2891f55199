/* SPDX-License-Identifier: BSD-3-Clause */
/* Receiving lines and descriptors: split anywhere, too long, too many, garbage.
 * What is sent here is sent by hand, so that the peer may be as rude as it
 * likes.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"
#include "protocol.h"
#include "unit.h"

/* Two ends of a connection and the reader at one of them. */
struct pair {
  int sock[2]; /* 0 sends, 1 receives; -1 when closed */
  struct line_reader r;
};

static void
pair_close (struct pair *p)
{
  cleanup_close (&p->sock[0]);
  cleanup_close (&p->sock[1]);
  line_reader_destroy (&p->r);
}

#define CLEANUP_PAIR __attribute__ ((cleanup (pair_close)))

static void
pair_open (struct pair *p)
{
  const int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

  line_reader_init (&p->r);
  CU_ASSERT_EQUAL_FATAL (socketpair (AF_UNIX, type, 0, p->sock), 0);
}

static void
hang_up (struct pair *p)
{
  close (p->sock[0]);
  p->sock[0] = -1;
}

/* Send all of it; what is sent must fit into the socket's buffer. */
static void
put (struct pair *p, const void *data, size_t len)
{
  CU_ASSERT_EQUAL_FATAL (send (p->sock[0], data, len, MSG_NOSIGNAL),
                         (ssize_t)len);
}

static void
put_text (struct pair *p, const char *text)
{
  put (p, text, strlen (text));
}

/* Receive, and expect just this number of bytes. */
static void
get (struct pair *p, ssize_t len)
{
  CU_ASSERT_EQUAL_FATAL (line_reader_receive (&p->r, p->sock[1]), len);
}

static void
assert_error (struct pair *p, int error)
{
  errno = 0;
  CU_ASSERT_EQUAL (line_reader_receive (&p->r, p->sock[1]), -1);
  CU_ASSERT_EQUAL (errno, error);
}

static void
assert_line (struct pair *p, const char *expected)
{
  CLEANUP_FREE char *line = line_reader_next (&p->r);

  CU_ASSERT_PTR_NOT_NULL_FATAL (line);
  CU_ASSERT_STRING_EQUAL (line, expected);
}

static void
assert_no_line (struct pair *p)
{
  errno = EDOM;
  CU_ASSERT_PTR_NULL (line_reader_next (&p->r));
  CU_ASSERT_EQUAL (errno, 0);
}

/* ---- Lines ------------------------------------------------------------- */

static void
test_nothing (void)
{
  CLEANUP_PAIR struct pair p;

  pair_open (&p);
  assert_no_line (&p);
  assert_error (&p, EAGAIN);
  assert_no_line (&p);
  hang_up (&p);
  get (&p, 0);
  assert_no_line (&p);
}

static void
test_lines (void)
{
  CLEANUP_PAIR struct pair p;

  pair_open (&p);
  put_text (&p, "{}\n");
  get (&p, 3);
  assert_line (&p, "{}");
  assert_no_line (&p);
  put_text (&p, "one\n\n\r\nfour\nfi");
  get (&p, 14);
  assert_line (&p, "one");
  assert_line (&p, "");
  assert_line (&p, "\r");
  put_text (&p, "ve\nsix"); /* while there are lines left to take */
  get (&p, 6);
  assert_line (&p, "four");
  assert_line (&p, "five");
  assert_no_line (&p);
  hang_up (&p);
  get (&p, 0);
  assert_no_line (&p); /* the last one never ended */
}

/* Three lines, sent in two parts, for each place to part them. */
static void
test_split (void)
{
  static const char text[] = "first\n\nthird\n";
  const size_t len = sizeof text - 1;

  for (size_t at = 1; at < len; at++) {
    CLEANUP_PAIR struct pair p;

    pair_open (&p);
    put (&p, text, at);
    get (&p, at);
    if (at <= 5)
      assert_no_line (&p);
    put (&p, text + at, len - at);
    get (&p, len - at);
    assert_line (&p, "first");
    assert_line (&p, "");
    assert_line (&p, "third");
    assert_no_line (&p);
  }
}

static void
test_byte_by_byte (void)
{
  CLEANUP_PAIR struct pair p;
  CLEANUP_FREE char *text = malloc (20001);
  bool early = false;

  pair_open (&p);
  CU_ASSERT_PTR_NOT_NULL_FATAL (text);
  memset (text, 'x', 20000);
  text[20000] = '\0';
  for (unsigned i = 0; i < 20000; i++) {
    put (&p, "x", 1);
    get (&p, 1);
    early = early || line_reader_next (&p.r) != NULL;
  }
  CU_ASSERT_FALSE (early);
  put (&p, "\n", 1);
  get (&p, 1);
  assert_line (&p, text);
}

static void
test_zero_bytes (void)
{
  CLEANUP_PAIR struct pair p;

  pair_open (&p);
  put (&p, "{}\0{}\n\0\n", 8);
  get (&p, 8);
  assert_line (&p, "{}\1{}");
  assert_line (&p, "\1");
  assert_no_line (&p);
}

/* ---- Long lines -------------------------------------------------------- */

/* Send 'len' letters, receiving meanwhile, without taking a line.  Returns the
 * result of the last receive.
 */
static ssize_t
pump (struct pair *p, size_t len)
{
  static const char letters[4096] = { [0 ... 4095] = 'a' };
  size_t sent = 0, received = 0;

  while (received < len) {
    const size_t n = len - sent < sizeof letters ? len - sent : sizeof letters;

    if (n > 0) {
      put (p, letters, n);
      sent += n;
    }

    const ssize_t r = line_reader_receive (&p->r, p->sock[1]);

    if (r <= 0)
      return r;
    received += r;
  }
  return received;
}

static void
test_longest_line (void)
{
  CLEANUP_PAIR struct pair p;

  pair_open (&p);
  for (unsigned i = 0; i < 2; i++) { /* the second in a buffer of full size */
    CU_ASSERT_EQUAL_FATAL (pump (&p, PROTOCOL_LINE_MAX - 1),
                           PROTOCOL_LINE_MAX - 1);
    assert_no_line (&p);
    put (&p, "\nrest\n", 6);
    while (line_reader_receive (&p.r, p.sock[1]) > 0 &&
           p.r.used < PROTOCOL_LINE_MAX)
      ;

    CLEANUP_FREE char *line = line_reader_next (&p.r);

    CU_ASSERT_PTR_NOT_NULL_FATAL (line);
    CU_ASSERT_EQUAL (strlen (line), PROTOCOL_LINE_MAX - 1);
    get (&p, 5);
    assert_line (&p, "rest");
  }
}

/* Known at once: a peer that sent it may wait for the answer. */
static void
test_line_too_long (void)
{
  CLEANUP_PAIR struct pair p;

  pair_open (&p);
  errno = 0;
  CU_ASSERT_EQUAL (pump (&p, PROTOCOL_LINE_MAX), -1);
  CU_ASSERT_EQUAL (errno, EMSGSIZE);
  put (&p, "\n", 1);
  assert_error (&p, EMSGSIZE); /* and it stays so */
  CU_ASSERT (p.r.allocated <= PROTOCOL_LINE_MAX);
}

/* Bounded also if nobody takes the lines. */
static void
test_lines_not_taken (void)
{
  CLEANUP_PAIR struct pair p;

  pair_open (&p);
  put_text (&p, "short\n");
  get (&p, 6);
  CU_ASSERT_EQUAL (pump (&p, PROTOCOL_LINE_MAX - 6), PROTOCOL_LINE_MAX - 6);
  put_text (&p, "\n");
  assert_error (&p, EMSGSIZE);
  assert_line (&p, "short");
  get (&p, 1);
}

static void
test_thousands_of_empty_lines (void)
{
  CLEANUP_PAIR struct pair p;
  char newlines[5000];
  unsigned n = 0;

  pair_open (&p);
  memset (newlines, '\n', sizeof newlines);
  for (unsigned i = 0; i < 20; i++) {
    put (&p, newlines, sizeof newlines);
    for (unsigned got = 0; got < sizeof newlines;) {
      const ssize_t r = line_reader_receive (&p.r, p.sock[1]);

      CU_ASSERT_FATAL (r > 0);
      got += r;
      for (char *line; (line = line_reader_next (&p.r)) != NULL; n++)
        free (line);
    }
  }
  CU_ASSERT_EQUAL (n, 20 * sizeof newlines);
}

/* ---- Garbage ----------------------------------------------------------- */

#define GARBAGE 8192 /* bytes in a round */

/* Take all lines and compare them with what was sent from *at on. */
static bool
same_lines (struct pair *p, const char *sent, size_t *at)
{
  for (;;) {
    CLEANUP_FREE char *line = line_reader_next (&p->r);

    if (line == NULL)
      return true;

    const size_t len = strlen (line);

    for (size_t i = 0; i < len; i++)
      if (line[i] != (sent[*at + i] ? sent[*at + i] : '\1'))
        return false;
    *at += len;
    if (sent[(*at)++] != '\n')
      return false;
  }
}

static bool
garbage_round (uint64_t *rnd)
{
  CLEANUP_PAIR struct pair p;
  char data[GARBAGE];
  size_t at = 0;
  /* From a newline in each 2 bytes to one in each 2048. */
  const uint64_t rarity = UINT64_C (2) << unit_random (rnd, 11);

  pair_open (&p);
  for (size_t i = 0; i < sizeof data; i++)
    data[i] = unit_random (rnd, rarity) == 0 ? '\n' : unit_random (rnd, 256);
  data[sizeof data - 1] = '\n';
  for (size_t sent = 0; sent < sizeof data;) {
    const size_t most = unit_random (rnd, 2) ? sizeof data - sent : 10;
    size_t n = 1 + unit_random (rnd, most);

    if (n > sizeof data - sent)
      n = sizeof data - sent;
    put (&p, data + sent, n);
    sent += n;
    if (unit_random (rnd, 3) == 0) /* let it pile up */
      continue;
    while (line_reader_receive (&p.r, p.sock[1]) > 0)
      if (unit_random (rnd, 2) && !same_lines (&p, data, &at))
        return false;
  }
  while (line_reader_receive (&p.r, p.sock[1]) > 0)
    ;
  return same_lines (&p, data, &at) && at == sizeof data;
}

static void
test_garbage (void)
{
  uint64_t rnd = unit_seed ();
  bool ok = true;

  for (unsigned i = 0; i < 300 && ok; i++) {
    ok = garbage_round (&rnd);
    if (!ok)
      printf ("(round %u) ", i);
  }
  CU_ASSERT (ok);
}

/* ---- Descriptors ------------------------------------------------------- */

#define MANY (PROTOCOL_FDS_MAX * 2)

static unsigned
count_open_fds (void)
{
  unsigned n = 0;
  DIR *dir = opendir ("/proc/self/fd");

  CU_ASSERT_PTR_NOT_NULL_FATAL (dir);
  while (readdir (dir))
    n++;
  closedir (dir);
  return n;
}

/* Send the text with n copies of fd. */
static void
put_fds (struct pair *p, const char *text, int fd, size_t n)
{
  union {
    struct cmsghdr align;
    char data[CMSG_SPACE (MANY * sizeof (int))];
  } control = { 0 };
  struct iovec iov = { .iov_base = (void *)text, .iov_len = strlen (text) };
  struct msghdr msg = { .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = &control,
                        .msg_controllen = CMSG_SPACE (n * sizeof fd) };
  struct cmsghdr *cmsg = CMSG_FIRSTHDR (&msg);

  CU_ASSERT_FATAL (n <= MANY);
  cmsg->cmsg_level = SOL_SOCKET;
  cmsg->cmsg_type = SCM_RIGHTS;
  cmsg->cmsg_len = CMSG_LEN (n * sizeof fd);
  for (size_t i = 0; i < n; i++)
    memcpy (CMSG_DATA (cmsg) + i * sizeof fd, &fd, sizeof fd);
  CU_ASSERT_EQUAL_FATAL (sendmsg (p->sock[0], &msg, MSG_NOSIGNAL),
                         (ssize_t)strlen (text));
}

/* Take the descriptors, expect n, close them. */
static void
assert_fds (struct pair *p, size_t n)
{
  int fds[PROTOCOL_FDS_MAX];
  const size_t got = line_reader_take_fds (&p->r, fds);

  CU_ASSERT_EQUAL (got, n);
  for (size_t i = 0; i < got; i++) {
    CU_ASSERT_EQUAL (fcntl (fds[i], F_GETFD), FD_CLOEXEC);
    close (fds[i]);
  }
}

static void
test_one_fd (void)
{
  CLEANUP_PAIR struct pair p;
  int end[2], fds[PROTOCOL_FDS_MAX], more[PROTOCOL_FDS_MAX];
  char c = 0;

  pair_open (&p);
  CU_ASSERT_EQUAL_FATAL (pipe2 (end, O_CLOEXEC), 0);
  put_fds (&p, "x\n", end[1], 1);
  close (end[1]);
  get (&p, 2);
  assert_line (&p, "x");
  CU_ASSERT_EQUAL_FATAL (line_reader_take_fds (&p.r, fds), 1);
  CU_ASSERT_EQUAL (line_reader_take_fds (&p.r, more), 0); /* once only */
  CU_ASSERT_EQUAL (write (fds[0], "y", 1), 1);
  CU_ASSERT_EQUAL (read (end[0], &c, 1), 1);
  CU_ASSERT_EQUAL (c, 'y');
  close (fds[0]);
  CU_ASSERT_EQUAL (read (end[0], &c, 1), 0); /* that was the only copy */
  close (end[0]);
}

static void
test_most_fds (void)
{
  CLEANUP_PAIR struct pair p;
  const unsigned before = count_open_fds ();

  pair_open (&p);
  for (unsigned i = 0; i < 3; i++) {
    put_fds (&p, "x\n", p.sock[0], PROTOCOL_FDS_MAX);
    get (&p, 2);
    assert_line (&p, "x");
    assert_fds (&p, PROTOCOL_FDS_MAX);
  }
  CU_ASSERT_EQUAL (count_open_fds (), before + 2);
}

/* They arrive with the first byte, and may be collected from several. */
static void
test_fds_and_split_lines (void)
{
  CLEANUP_PAIR struct pair p;

  pair_open (&p);
  put_fds (&p, "on", p.sock[0], 2);
  put_fds (&p, "e\ntwo\nth", p.sock[0], 1);
  get (&p, 2); /* the kernel ends a message after descriptors */
  assert_no_line (&p);
  get (&p, 8);
  assert_line (&p, "one");
  assert_fds (&p, 3);
  assert_line (&p, "two");
  assert_fds (&p, 0);
  put_text (&p, "ree\n");
  get (&p, 4);
  assert_line (&p, "three");
  assert_fds (&p, 0);
}

static void
assert_too_many (size_t first, size_t second)
{
  const unsigned before = count_open_fds ();

  {
    CLEANUP_PAIR struct pair p;

    pair_open (&p);
    if (first > 0) {
      put_fds (&p, "x", p.sock[0], first);
      get (&p, 1);
    }
    put_fds (&p, "y\n", p.sock[0], second);
    assert_error (&p, EMSGSIZE);
    CU_ASSERT (p.r.nr_fds <= PROTOCOL_FDS_MAX);
  }
  CU_ASSERT_EQUAL (count_open_fds (), before);
}

static void
test_too_many_fds (void)
{
  assert_too_many (0, PROTOCOL_FDS_MAX + 1);
  assert_too_many (0, MANY);
  assert_too_many (1, PROTOCOL_FDS_MAX);
  assert_too_many (PROTOCOL_FDS_MAX, 1);
  assert_too_many (PROTOCOL_FDS_MAX, MANY);
}

/* Whatever nobody took is closed with the reader. */
static void
test_fds_not_taken (void)
{
  const unsigned before = count_open_fds ();

  {
    CLEANUP_PAIR struct pair p;

    pair_open (&p);
    put_fds (&p, "x\n", p.sock[0], 10);
    get (&p, 2);
    CU_ASSERT_EQUAL (count_open_fds (), before + 12);
  }
  CU_ASSERT_EQUAL (count_open_fds (), before);
}

static void
test_destroyed (void)
{
  struct line_reader r;

  line_reader_init (&r);
  line_reader_destroy (&r);
  line_reader_destroy (&r);
  errno = 0;
  CU_ASSERT_EQUAL (line_reader_receive (&r, -1), -1);
  CU_ASSERT_EQUAL (errno, EBADF);
  line_reader_destroy (&r);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "nothing to read", test_nothing },
    { "several lines at once", test_lines },
    { "split at each place", test_split },
    { "byte by byte", test_byte_by_byte },
    { "0 bytes", test_zero_bytes },
    { "the longest line", test_longest_line },
    { "a line too long", test_line_too_long },
    { "lines that nobody takes", test_lines_not_taken },
    { "thousands of empty lines", test_thousands_of_empty_lines },
    { "random garbage", test_garbage },
    { "one descriptor", test_one_fd },
    { "as many descriptors as allowed", test_most_fds },
    { "descriptors and split lines", test_fds_and_split_lines },
    { "too many descriptors", test_too_many_fds },
    { "descriptors that nobody takes", test_fds_not_taken },
    { "destroyed twice, and a bad socket", test_destroyed },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("line-reader", tests);
}
