/* SPDX-License-Identifier: BSD-3-Clause */
/* A peer that does not read is heard; one that the network does not reach is
 * not.  The network is a loopback interface of our own, so that it can be taken
 * down; without permission for that only the first half is tested.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "socket-life.h"
#include "unit.h"

#define TRIES 400 /* of 50 ms */

static void
pause_ms (long ms)
{
  nanosleep (&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static void
connected_pair (int *ours, int *peer)
{
  struct sockaddr_in addr = {
    .sin_family = AF_INET,
    .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
  };
  socklen_t size = sizeof addr;
  const int listener = socket (AF_INET, SOCK_STREAM, 0);

  *ours = socket (AF_INET, SOCK_STREAM, 0);
  CU_ASSERT_EQUAL_FATAL (bind (listener, (struct sockaddr *)&addr, size), 0);
  CU_ASSERT_EQUAL_FATAL (listen (listener, 1), 0);
  getsockname (listener, (struct sockaddr *)&addr, &size);
  CU_ASSERT_EQUAL_FATAL (connect (*ours, (struct sockaddr *)&addr, size), 0);
  *peer = accept (listener, NULL, NULL);
  CU_ASSERT_NOT_EQUAL_FATAL (*peer, -1);
  close (listener);
  fcntl (*ours, F_SETFL, O_NONBLOCK);
}

static void
fill (int fd)
{
  static const char data[65536];

  while (send (fd, data, sizeof data, MSG_NOSIGNAL) > 0)
    ;
}

static int
get_option (int fd, int level, int option)
{
  int value = -1;
  socklen_t size = sizeof value;

  getsockopt (fd, level, option, &value, &size);
  return value;
}

static void
test_options (void)
{
  int ours, peer, pair[2];

  connected_pair (&ours, &peer);
  socket_keep_alive (ours);
  CU_ASSERT_EQUAL (get_option (ours, SOL_SOCKET, SO_KEEPALIVE), 1);
  CU_ASSERT_EQUAL (get_option (ours, IPPROTO_TCP, TCP_KEEPIDLE),
                   SOCKET_KEEPALIVE_IDLE_S);
  CU_ASSERT_EQUAL (get_option (ours, IPPROTO_TCP, TCP_KEEPINTVL),
                   SOCKET_KEEPALIVE_INTERVAL_S);
  CU_ASSERT_EQUAL (get_option (ours, IPPROTO_TCP, TCP_KEEPCNT),
                   SOCKET_KEEPALIVE_COUNT);
  CU_ASSERT_EQUAL (get_option (ours, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
  close (ours);
  close (peer);

  CU_ASSERT_EQUAL_FATAL (socketpair (AF_UNIX, SOCK_STREAM, 0, pair), 0);
  socket_keep_alive (pair[0]);
  CU_ASSERT_EQUAL (socket_unheard_ms (pair[0]), 0);
  close (pair[0]);
  close (pair[1]);
}

/* Longer than it takes to notice one that is not heard. */
static void
test_window_shut (void)
{
  int ours, peer;

  connected_pair (&ours, &peer);
  fill (ours);
  for (unsigned i = 0; i < 60; ++i) {
    CU_ASSERT_EQUAL (socket_unheard_ms (ours), 0);
    pause_ms (50);
  }
  close (ours);
  close (peer);
}

static bool
set_loopback (bool up)
{
  struct ifreq request = { .ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0 };
  const int fd = socket (AF_INET, SOCK_DGRAM, 0);
  const bool ok = ioctl (fd, SIOCSIFFLAGS, &request) == 0;

  close (fd);
  return ok;
}

static void
test_network_away (void)
{
  unsigned tries = TRIES;
  int ours, peer;

  if (unshare (CLONE_NEWNET) == -1 || !set_loopback (true)) {
    printf ("(no permission) ");
    return;
  }
  connected_pair (&ours, &peer);
  CU_ASSERT_EQUAL (send (ours, "x", 1, 0), 1);
  CU_ASSERT_EQUAL (socket_unheard_ms (ours), 0);
  CU_ASSERT_TRUE_FATAL (set_loopback (false));
  CU_ASSERT_EQUAL (send (ours, "x", 1, 0), 1);
  while (socket_unheard_ms (ours) == 0 && --tries > 0)
    pause_ms (50);
  CU_ASSERT (socket_unheard_ms (ours) > 0);

  CU_ASSERT_TRUE_FATAL (set_loopback (true));
  for (tries = TRIES; socket_unheard_ms (ours) > 0 && tries > 0; --tries)
    pause_ms (50);
  CU_ASSERT_EQUAL (socket_unheard_ms (ours), 0);
  close (ours);
  close (peer);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the options that are set", test_options },
    { "a peer that does not read is heard", test_window_shut },
    { "a peer behind a network that is away is not", test_network_away },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("socket-life", tests);
}
