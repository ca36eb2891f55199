/* SPDX-License-Identifier: BSD-3-Clause */
/* Depth first, through every state once.  What is known of a state is under its
 * key, 64 bits of a hash: that two of some millions of states share one has a
 * probability of one in a million.
 */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

#define DEPTH_MAX 400

struct known {
  uint64_t key; /* 0: nobody is here */
  double schedules;
};

#define NOT_YET (-1.) /* it is on the way that led here */

static struct known *table;
static uint64_t table_size, table_used;

static struct step way[DEPTH_MAX];
static size_t depth;
static struct found *sum;

static struct known *
look_up (uint64_t key)
{
  uint64_t i = key & (table_size - 1);

  while (table[i].key != 0 && table[i].key != key)
    i = (i + 1) & (table_size - 1);
  return &table[i];
}

static void
make_table (uint64_t size)
{
  struct known *const old = table;
  const uint64_t old_size = table_size;

  table = calloc (size, sizeof *table);
  if (table == NULL)
    abort ();
  table_size = size;
  for (uint64_t i = 0; i < old_size; i++)
    if (old[i].key != 0)
      *look_up (old[i].key) = old[i];
  free (old);
}

static void
note (uint64_t key, double schedules)
{
  struct known *k;

  if (table_used * 2 >= table_size)
    make_table (table_size * 2);
  k = look_up (key);
  table_used += k->key == 0;
  *k = (struct known){ key, schedules };
}

static void
print_way (void)
{
  for (size_t i = 0; i < depth; i++) {
    printf ("  %2zu ", i + 1);
    step_print (way[i]);
  }
}

/* How many schedules lead on from here; negative: a violation. */
static double
visit (void)
{
  const uint64_t key = world_key () | 1;
  const struct known *k = look_up (key);
  struct step steps[STEPS_MAX];
  void *here;
  double schedules = 0;
  size_t n;

  if (k->key != 0) {
    assert (k->schedules != NOT_YET); /* nothing goes on for ever */
    return k->schedules;
  }
  note (key, NOT_YET);
  sum->states++;
  n = steps_list (steps);
  here = world_keep ();
  for (size_t i = 0; i < n; i++) {
    double s;

    if (depth == DEPTH_MAX) {
      violation = "it goes on and on";
      print_way ();
      return -1;
    }
    way[depth++] = steps[i];
    sum->steps++;
    step_take (steps[i]);
    if (violation == NULL)
      world_check ();
    if (violation != NULL) {
      print_way ();
      return -1;
    }
    s = visit ();
    if (s < 0)
      return -1;
    schedules += s;
    depth--;
    world_restore (here);
  }
  world_drop (here);
  note (key, n == 0 ? 1 : schedules);
  return n == 0 ? 1 : schedules;
}

bool
explore (struct found *found)
{
  double schedules;

  sum = found;
  depth = 0;
  table_used = 0;
  if (table == NULL)
    make_table (1 << 16);
  memset (table, 0, table_size * sizeof *table);
  schedules = visit ();
  if (schedules < 0)
    return false;
  found->schedules += schedules;
  return true;
}
