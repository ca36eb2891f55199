/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that writes: see load.h.
 *
 * At a rate, the Nth request is due at a fixed time; what a pause has kept back
 * is made up for afterwards, as fast as the depth allows.  A request's time
 * begins when it is issued.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include <libnbd.h>

#include "load.h"
#include "stamps.h"
#include "times.h"

struct slot {
  uint64_t offset;
  int64_t begin; /* 0: free */
  void *buf;
};

static const struct load *load;
static struct nbd_handle *nbd;
static struct slot slots[MAX_DEPTH];
static unsigned in_flight;
static int64_t failures;
static uint64_t span, issued, random_state;

static volatile sig_atomic_t stopping;

static void
stop (int sig)
{
  (void)sig;
  stopping = 1;
}

static int
answered (void *user_data, int *error)
{
  struct slot *s = user_data;

  times_add (s->begin, times_now ());
  if (*error != 0)
    failures++;
  s->begin = 0;
  in_flight--;
  return 1;
}

static bool
is_busy (uint64_t offset)
{
  for (unsigned i = 0; i < load->depth; i++)
    if (slots[i].begin != 0 && slots[i].offset == offset)
      return true;
  return false;
}

/* xorshift64*, by Marsaglia and Vigna; the state must not be 0. */
static uint64_t
next_random (void)
{
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return random_state * UINT64_C (0x2545f4914f6cdd1d);
}

/* Places are multiples of a request's length, so two overlap only if they are
 * the same. */
static uint64_t
next_offset (void)
{
  const uint64_t places = span / load->request;
  uint64_t offset;

  if (load->sequential)
    return issued % places * load->request;
  do
    offset = (next_random () >> 11) % places * load->request;
  while (is_busy (offset));
  return offset;
}

static int
issue (void)
{
  struct slot *s = slots;

  while (s->begin != 0)
    s++;
  s->offset = next_offset ();
  stamps_next (s->offset, s->buf, load->request);
  issued++;
  in_flight++;
  s->begin = times_now ();
  if (nbd_aio_pwrite (
        nbd, s->buf, load->request, s->offset,
        (nbd_completion_callback){ .callback = answered, .user_data = s },
        0) == -1)
    return -1;
  return 0;
}

/* ns until the next request is due; 0: it is. */
static int64_t
until_due (int64_t start)
{
  int64_t due;

  if (load->rate == 0)
    return 0;
  due = start + (int64_t)((double)issued * (double)load->request * 1e9 /
                          (double)load->rate) -
        times_now ();
  return due > 0 ? due : 0;
}

/* Until something can be received or sent, or the time is over (-1: no limit).
 * SIGTERM arrives here only. */
static int
wait_and_serve (int64_t ns)
{
  const unsigned direction = nbd_aio_get_direction (nbd);
  struct pollfd p = { .fd = nbd_aio_get_fd (nbd) };
  const struct timespec limit = { .tv_sec = ns / 1000000000,
                                  .tv_nsec = ns % 1000000000 };
  sigset_t none;

  p.events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                     (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
  sigemptyset (&none);
  if (ppoll (&p, 1, ns < 0 ? NULL : &limit, &none) == -1)
    return errno == EINTR ? 0 : -1;
  if (direction & LIBNBD_AIO_DIRECTION_READ &&
      p.revents & (POLLIN | POLLHUP | POLLERR))
    return nbd_aio_notify_read (nbd);
  if (direction & LIBNBD_AIO_DIRECTION_WRITE && p.revents & POLLOUT)
    return nbd_aio_notify_write (nbd);
  return 0;
}

static int
write_until_stopped (void)
{
  const int64_t start = times_now ();
  bool said = false;

  while (!stopping || in_flight > 0) {
    int64_t wait = -1;

    while (!stopping && in_flight < load->depth &&
           (wait = until_due (start)) == 0)
      if (issue () == -1)
        return -1;
    if (!said && times_count () > 0 &&
        times_now () - start >= (int64_t)load->warm_up_ms * 1000000) {
      fprintf (stderr, "guest-load: at work\n");
      said = true;
    }
    if (wait_and_serve (in_flight == load->depth || stopping ? -1 : wait) == -1)
      return -1;
  }
  return nbd_flush (nbd, 0);
}

static int
prepare (void)
{
  const struct sigaction action = { .sa_handler = stop };
  sigset_t term;
  int64_t size;

  /* Woken when it wants to be. */
  prctl (PR_SET_TIMERSLACK, 1UL);
  sigemptyset (&term);
  sigaddset (&term, SIGTERM);
  sigprocmask (SIG_BLOCK, &term, NULL);
  sigaction (SIGTERM, &action, NULL);

  nbd = nbd_create ();
  if (nbd == NULL || nbd_connect_uri (nbd, load->uri) == -1 ||
      (size = nbd_get_size (nbd)) == -1)
    return -1;
  span = load->span > 0 ? load->span : (uint64_t)size;
  if (span > (uint64_t)size || span < load->request * load->depth * 2) {
    fprintf (stderr, "guest-load: the disk is too small, or the span\n");
    exit (EXIT_FAILURE);
  }
  random_state = load->seed + 1;
  for (unsigned i = 0; i < load->depth; i++)
    if ((slots[i].buf = malloc (load->request)) == NULL)
      return -1;
  return stamps_begin ((uint64_t)size, (uint64_t)times_now ());
}

int64_t
load_run (const struct load *what)
{
  load = what;
  if (prepare () == -1 || write_until_stopped () == -1) {
    fprintf (stderr, "guest-load: %s\n", nbd_get_error ());
    return -1;
  }
  nbd_close (nbd);
  for (unsigned i = 0; i < load->depth; i++)
    free (slots[i].buf);
  return failures;
}
