/* SPDX-License-Identifier: BSD-3-Clause */
/* libnbd's errors without the names of its functions. */

#include "nbd-error.h"
#include "unit.h"

static void
test_stripped (void)
{
  static const struct {
    const char *error, *text;
  } cases[] = {
    { "nbd_aio_connect_uri: connect: Connection refused",
      "connect: Connection refused" },
    { "nbd_aio_notify_read: handshake: server has no export named 'a'",
      "server has no export named 'a'" },
    { "nbd_aio_notify_read: disconnected", "disconnected" },
    { "handshake: no", "no" },
    { "nbd_poll: external event 0 is invalid in state CONNECT.START: Invalid "
      "argument",
      "the server closed the connection" },
  };
  size_t i;

  for (i = 0; i < sizeof cases / sizeof cases[0]; ++i)
    CU_ASSERT_STRING_EQUAL (nbd_error_text (cases[i].error), cases[i].text);
}

static void
test_kept (void)
{
  static const char *const texts[] = {
    "",
    "interrupted",
    "nbd_",
    "nbd: gone",
    "nbd_x",
    "nbd_x:y",
    "the server says nbd_pread: no",
    "external event 0 is invalid in state READY",
  };
  size_t i;

  for (i = 0; i < sizeof texts / sizeof texts[0]; ++i)
    CU_ASSERT_PTR_EQUAL (nbd_error_text (texts[i]), texts[i]);
  CU_ASSERT_PTR_NULL (nbd_error_text (NULL));
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "names of functions and states are left out", test_stripped },
    { "everything else is kept", test_kept },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("nbd-error", tests);
}
