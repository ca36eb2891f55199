/* SPDX-License-Identifier: BSD-3-Clause */
/* The throttle with threads: at a byte per second whoever has passed leaves a
 * debt of the longest wait behind, and each way out must end it for all.
 *
 * No test asks how long that took: had the way out not worked, the requests
 * would have passed by the bound, and not in the state that is looked for.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "tracker/throttle.h"
#include "unit.h"

#define GUESTS 8
#define FOR_EVER 3600000 /* ms */

struct guest {
  pthread_t thread;
  struct throttle *t;
  struct fair_flow flow;
  bool give_up;
};

static atomic_uint waiting, passed, given_up;

/* Write until nothing delays it. */
static void *
guest_loop (void *opaque)
{
  struct guest *g = opaque;
  struct throttle_request r;
  bool done = false;

  while (!done) {
    r = (struct throttle_request)THROTTLE_REQUEST_INIT;
    if (throttle_enter (g->t, &g->flow, &r, 4096)) {
      done = r.delayed_ns == 0 && !throttle_is_limited (g->t);
      continue;
    }
    waiting++;
    if (g->give_up) {
      throttle_give_up (g->t, &r);
      given_up++;
      return NULL;
    }
    while (!throttle_enter (g->t, &g->flow, &r, 4096))
      ;
  }
  passed++;
  return NULL;
}

static void
start (struct throttle *t, struct guest *guests, unsigned first_gives_up)
{
  throttle_init (t);
  throttle_set (t, 1, FOR_EVER);
  waiting = passed = given_up = 0;
  for (unsigned i = 0; i < GUESTS; i++) {
    guests[i] = (struct guest){ .t = t, .give_up = i < first_gives_up };
    CU_ASSERT_EQUAL_FATAL (
      pthread_create (&guests[i].thread, NULL, guest_loop, &guests[i]), 0);
  }
}

static void
join (struct guest *guests)
{
  for (unsigned i = 0; i < GUESTS; i++)
    pthread_join (guests[i].thread, NULL);
}

static void
finish (struct throttle *t)
{
  struct throttle_status s;

  CU_ASSERT_PTR_NULL (t->bucket.first);
  throttle_get_status (t, &s);
  CU_ASSERT (s.delayed_requests > 0);
  CU_ASSERT (s.delayed_us >= s.longest_us);
  throttle_destroy (t);
}

static void
wait_for (atomic_uint *n, unsigned least)
{
  while (*n < least)
    usleep (1000);
}

/* The limit is taken away. */
static void
test_off (void)
{
  struct throttle t;
  struct guest guests[GUESTS];

  start (&t, guests, 0);
  wait_for (&waiting, GUESTS);
  throttle_set (&t, 0, 0);
  join (guests);
  finish (&t);
  CU_ASSERT_EQUAL (passed, GUESTS);
}

/* Nobody renews it. */
static void
test_lapse (void)
{
  struct throttle t;
  struct throttle_status s;
  struct guest guests[GUESTS];

  start (&t, guests, 0);
  wait_for (&waiting, 1);
  throttle_renew (&t, 10);
  join (guests);
  CU_ASSERT_EQUAL (passed, GUESTS);
  throttle_renew (&t, FOR_EVER); /* what is over does not come again */
  throttle_get_status (&t, &s);
  CU_ASSERT_EQUAL (s.rate, 0);
  finish (&t);
}

/* Clients that are gone leave nothing behind. */
static void
test_give_up (void)
{
  struct throttle t;
  struct guest guests[GUESTS];

  start (&t, guests, GUESTS / 2);
  wait_for (&given_up, GUESTS / 2);
  throttle_set (&t, 0, 0);
  join (guests);
  finish (&t);
  CU_ASSERT_EQUAL (passed, GUESTS / 2);
}

static bool
enter (struct throttle *t, struct fair_flow *flow, struct throttle_request *r)
{
  return throttle_enter (t, flow, r, 4096);
}

/* The gate is shut, and the server quits: nobody waits, with the limit there.
 */
static void
test_let_pass (void)
{
  struct throttle_request r = THROTTLE_REQUEST_INIT;
  struct throttle_request last = THROTTLE_REQUEST_INIT;
  struct fair_flow flow = { 0 };
  struct throttle t;

  throttle_init (&t);
  throttle_set (&t, 1, FOR_EVER);
  CU_ASSERT (enter (&t, &flow, &r));
  CU_ASSERT (!enter (&t, &flow, &r));
  throttle_let_pass (&t, FOR_EVER);
  CU_ASSERT (enter (&t, &flow, &r));
  for (int i = 0; i < 100; i++)
    CU_ASSERT (enter (&t, &flow, &r));
  throttle_let_pass (&t, 0);
  CU_ASSERT (!enter (&t, &flow, &r));
  throttle_stop (&t);
  CU_ASSERT (enter (&t, &flow, &r));
  CU_ASSERT (enter (&t, &flow, &last));
  CU_ASSERT (throttle_is_limited (&t));
  throttle_destroy (&t);
}

/* A wait that is shorter than a slice. */
static void
test_short (void)
{
  struct throttle t;
  struct throttle_status s;
  struct fair_flow flow = { 0 };

  throttle_init (&t);
  throttle_set (&t, 256 << 20, FOR_EVER);
  do {
    struct throttle_request r = THROTTLE_REQUEST_INIT;

    throttle_give_up (&t, &r); /* it did not come */
    while (!throttle_enter (&t, &flow, &r, 4 << 20))
      ;
    throttle_get_status (&t, &s);
  } while (s.delayed_requests < 3);
  CU_ASSERT_PTR_NULL (t.bucket.first);
  throttle_destroy (&t);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "taken away", test_off },
    { "not renewed", test_lapse },
    { "clients that are gone", test_give_up },
    { "a shut gate, and the end of the server", test_let_pass },
    { "a short wait", test_short },
    CU_TEST_INFO_NULL,
  };

  return unit_main ("throttle", tests);
}
