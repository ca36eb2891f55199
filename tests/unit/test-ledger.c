/* SPDX-License-Identifier: BSD-3-Clause */
/* What two processes share must not be taken away from one by the other. */

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "ledger.h"
#include "unit.h"

static void
test_shared (void)
{
  const struct ledger_line value = { 5, 7, 3, 1, 1, 0 };
  const struct ledger *seen;
  struct ledger_line line;
  struct ledger *l;
  int fd;

  l = ledger_create (&fd);
  CU_ASSERT_PTR_NOT_NULL_FATAL (l);
  CU_ASSERT (ledger_is (fd));
  seen = ledger_open (fd);
  CU_ASSERT_PTR_NOT_NULL_FATAL (seen);
  ledger_write (&l->lines[PROTOCOL_FDS_MAX - 1], &value);
  CU_ASSERT_EQUAL (ftruncate (fd, 0), -1); /* which would be a SIGBUS for us */
  close (fd);
  ledger_close (l);

  line = ledger_read (&seen->lines[PROTOCOL_FDS_MAX - 1]);
  CU_ASSERT_EQUAL (memcmp (&line, &value, sizeof line), 0);
  line = ledger_read (&seen->lines[0]);
  CU_ASSERT_EQUAL (line.since_us, 0);
  ledger_close (seen);
}

/* A memfd of this size with these seals. */
static bool
is_refused (off_t size, int seals)
{
  const int fd = memfd_create ("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const struct ledger *l;

  CU_ASSERT_EQUAL (ftruncate (fd, size), 0);
  CU_ASSERT_EQUAL (fcntl (fd, F_ADD_SEALS, seals), 0);
  l = ledger_open (fd);
  close (fd);
  ledger_close (l);
  return l == NULL;
}

static void
test_refused (void)
{
  const off_t size = sizeof (struct ledger);
  int v[2];

  CU_ASSERT (is_refused (size, 0));
  CU_ASSERT (is_refused (size, F_SEAL_GROW));
  CU_ASSERT (is_refused (size - 1, F_SEAL_SHRINK));
  CU_ASSERT (is_refused (0, F_SEAL_SHRINK));
  CU_ASSERT_FALSE (is_refused (size, F_SEAL_SHRINK));

  CU_ASSERT_EQUAL_FATAL (socketpair (AF_UNIX, SOCK_STREAM, 0, v), 0);
  CU_ASSERT_FALSE (ledger_is (v[0]));
  CU_ASSERT_PTR_NULL (ledger_open (v[0]));
  close (v[0]);
  close (v[1]);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "what one writes the other reads", test_shared },
    { "what could be taken away is refused", test_refused },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("ledger", tests);
}
