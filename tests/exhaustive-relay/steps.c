/* SPDX-License-Identifier: BSD-3-Clause */
/* The steps: when each is possible, and what it does. */

#include <assert.h>
#include <stdio.h>

#include "server.h"

#define COMMANDS 4 /* of a wire, that may be answered next */

enum what {
  STEP_RUN,
  STEP_CHOOSE, /* + which */
  STEP_ANSWER = STEP_CHOOSE + FATES,
  STEP_REFUSE = STEP_ANSWER + COMMANDS, /* + which * FATES + fate */
  STEP_LAND = STEP_REFUSE + COMMANDS * FATES,
  STEP_CUT, /* + fate */
  STEP_CRASH = STEP_CUT + FATES,
  STEP_END = STEP_CRASH + FATES,
  STEP_JUMP = STEP_END + FATES,
};

struct list {
  struct step *steps;
  size_t n;
};

static void
add (struct list *l, unsigned what, unsigned who)
{
  assert (l->n < STEPS_MAX); /* or a schedule would not be looked at */
  l->steps[l->n++] = (struct step){ what, who };
}

/* ---- Which are possible ------------------------------------------------- */

static bool
list_choices (struct list *l)
{
  for (unsigned i = 0; i < THREADS; i++) {
    const struct thread *t = &world.threads[i];

    if (t->state != THREAD_CHOOSES || t->choices == 1)
      continue;
    for (unsigned n = 0; n < t->choices; n++)
      add (l, STEP_CHOOSE + n, i);
    return true;
  }
  return false;
}

static bool
list_threads (struct list *l)
{
  for (unsigned i = 0; i < THREADS; i++)
    if (thread_can_run (i))
      add (l, STEP_RUN, i);
  return l->n > 0;
}

/* At any time, if not at once. */
static void
list_proxy (struct list *l)
{
  for (unsigned i = 0; i < THREADS; i++)
    if (world.threads[i].state == THREAD_CHOOSES)
      add (l, STEP_CHOOSE, i);
}

static void
list_wires (struct list *l)
{
  for (unsigned w = 0; w < WIRES; w++) {
    for (unsigned n = 0; n < COMMANDS; n++)
      if (server_can_answer (w, n))
        add (l, STEP_ANSWER + n, w);
    for (unsigned f = 0; f < FATES; f++)
      if (server_can_end (w, f))
        add (l, STEP_END + f, w);
  }
}

static void
list_errors (struct list *l)
{
  for (unsigned w = 0; w < WIRES; w++)
    for (unsigned n = 0; n < COMMANDS; n++)
      for (unsigned f = 0; f < FATES; f++)
        if (server_can_refuse (w, n, f))
          add (l, STEP_REFUSE + n * FATES + f, w);
}

static void
list_faults (struct list *l)
{
  for (unsigned f = 0; f < FATES; f++) {
    for (unsigned w = 0; w < WIRES; w++)
      if (server_can_cut (w, f))
        add (l, STEP_CUT + f, w);
    if (server_can_crash (f))
      add (l, STEP_CRASH + f, 0);
  }
}

/* Whoever can run is faster than the clock; a server that has something to do
 * may be slow.
 */
static bool
can_jump (bool anybody_runs)
{
  return world.left.jumps > 0 && !anybody_runs && !server_must_end () &&
         (!server_owes_answers () || world.left.faults > 0);
}

size_t
steps_list (struct step steps[STEPS_MAX])
{
  struct list l = { steps, 0 };
  const unsigned current = world.running;
  bool anybody_runs;

  if (world.is_over || list_choices (&l))
    return l.n;
  if (world.left.switches == 0 && thread_can_run (current)) {
    add (&l, STEP_RUN, current);
    return l.n;
  }
  anybody_runs = list_threads (&l);
  list_proxy (&l);
  list_wires (&l);
  for (unsigned i = 0; i < LATE; i++)
    if (server_can_land (i))
      add (&l, STEP_LAND, i);
  if (world.left.errors > 0)
    list_errors (&l);
  if (world.left.faults > 0)
    list_faults (&l);
  if (can_jump (anybody_runs))
    add (&l, STEP_JUMP, 0);
  must (l.n > 0 || world.left.jumps == 0, "somebody waits for ever");
  return l.n;
}

/* ---- What they do ------------------------------------------------------- */

static void
jump (void)
{
  if (server_owes_answers ())
    world.left.faults--;
  world.left.jumps--;
  world.clock_ms += JUMP_MS;
  server_jump ();
  threads_wake_late ();
}

/* A step that another could have taken instead. */
static void
count_switch (struct step step)
{
  const unsigned current = world.running;

  if (world.left.switches != ANY_SWITCHES && thread_can_run (current) &&
      !(step.what == STEP_RUN && step.who == current))
    world.left.switches--;
}

static void
happen (struct step step)
{
  const unsigned what = step.what;

  if (what < STEP_REFUSE)
    server_answer (step.who, what - STEP_ANSWER);
  else if (what < STEP_LAND) {
    world.left.errors--;
    server_refuse (step.who, (what - STEP_REFUSE) / FATES,
                   (what - STEP_REFUSE) % FATES);
  }
  else if (what == STEP_LAND)
    server_land (step.who);
  else if (what < STEP_CRASH) {
    world.left.faults--;
    server_cut (step.who, what - STEP_CUT);
  }
  else if (what < STEP_END) {
    world.left.faults--;
    server_crash (what - STEP_CRASH);
  }
  else if (what < STEP_JUMP)
    server_end (step.who, what - STEP_END);
  else
    jump ();
}

void
step_take (struct step step)
{
  count_switch (step);
  if (step.what < STEP_ANSWER) {
    if (step.what >= STEP_CHOOSE)
      world.threads[step.who].chosen = step.what - STEP_CHOOSE;
    thread_run (step.who);
    return;
  }
  threads_happens (true);
  happen (step);
  threads_happens (false);
}

/* ---- How they are told -------------------------------------------------- */

static const char *const fates[] = {
  [FATE_GONE] = "what it had not answered is gone",
  [FATE_DONE] = "what it had not answered is done",
  [FATE_LATE] = "what it had not answered may be done late",
};

static void
print_thread (unsigned i)
{
  if (i == 0)
    printf ("the proxy");
  else if (i <= GUESTS)
    printf ("guest %u", i);
  else
    printf ("thread %u of the relay", i - GUESTS);
}

void
step_print (struct step step)
{
  const unsigned what = step.what, who = step.who;

  if (what == STEP_RUN) {
    print_thread (who);
    printf (" goes on");
  }
  else if (what < STEP_ANSWER) {
    print_thread (who);
    printf (" meets the %u. of what can be", what - STEP_CHOOSE + 1);
  }
  else if (what < STEP_REFUSE)
    printf ("connection %u: the %u. newest command is done, and answered", who,
            what - STEP_ANSWER + 1);
  else if (what < STEP_LAND)
    printf ("connection %u: the %u. newest command fails, and was %sdone", who,
            (what - STEP_REFUSE) / FATES + 1,
            (what - STEP_REFUSE) % FATES == FATE_DONE ? "" : "not ");
  else if (what == STEP_LAND)
    printf ("late write %u is done", who);
  else if (what < STEP_CRASH)
    printf ("connection %u breaks; %s", who, fates[what - STEP_CUT]);
  else if (what < STEP_END)
    printf ("the server crashes; %s", fates[what - STEP_CRASH]);
  else if (what < STEP_JUMP)
    printf ("connection %u is seen to have ended; %s", who,
            fates[what - STEP_END]);
  else
    printf ("%d ms pass", JUMP_MS);
  putchar ('\n');
}
