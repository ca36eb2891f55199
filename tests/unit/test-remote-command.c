/* SPDX-License-Identifier: BSD-3-Clause */
/* What the end of a command proves about its server: an answer that it lives,
 * an error that libnbd itself gives nothing.
 */

#include <errno.h>

#include "remote/remote.h"
#include "unit.h"

static void
ignore_loss (void *opaque, struct connection *c, bool again, const char *why)
{
  (void)opaque, (void)c, (void)again, (void)why;
}

/* A ping that ends so.  Without a thread: the answer is given here. */
static void
end_ping (struct remote *m, struct connection *c, bool issued, int error)
{
  struct batch b;
  struct command *cmd;

  *c = (struct connection){ .remote = m, .fd = -1, .kick = -1, .call = -1 };
  batch_init (&b, 0);
  cmd = batch_add (&b, COMMAND_READ, 0, 0, 512, NULL);
  cmd->ping = true;
  pthread_mutex_lock (&m->lock);
  batch_link (m, &b, c);
  CU_ASSERT_EQUAL (b.pending, 1);
  cmd->issued = issued;
  CU_ASSERT_PTR_NULL (remote_command_done (cmd, error));
  CU_ASSERT_EQUAL (b.pending, 0);
  CU_ASSERT_EQUAL (c->in_flight, 0);
  pthread_mutex_unlock (&m->lock);
  batch_destroy (&b);
}

static void
test_proof (void)
{
  static const struct remote_options options = { .silent_ms = 1000 };
  static const struct remote_user user = { .lost = ignore_loss };
  struct remote m;
  struct connection c;

  remote_init (&m, &options, &user);
  end_ping (&m, &c, true, 0);
  CU_ASSERT (c.proved_ms > 0);
  end_ping (&m, &c, true, EIO);
  CU_ASSERT (c.proved_ms > 0);
  CU_ASSERT_EQUAL (m.pings_lost, 0);

  end_ping (&m, &c, false, EINVAL);
  CU_ASSERT_EQUAL (c.proved_ms, 0);
  CU_ASSERT_FALSE (c.lost);
  CU_ASSERT_EQUAL (m.pings_lost, 1);
  end_ping (&m, &c, true, ENOTCONN);
  CU_ASSERT_EQUAL (c.proved_ms, 0);
  CU_ASSERT (c.lost);
  CU_ASSERT_EQUAL (m.pings_lost, 2);
  remote_destroy (&m);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "what proves that a server lives", test_proof },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("remote-command", tests);
}
