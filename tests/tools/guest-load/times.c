/* SPDX-License-Identifier: BSD-3-Clause */
/* How long each request took: see times.h. */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cleanup.h"
#include "times.h"

struct request {
  int64_t begin, end;
};

static struct request *requests;
static size_t nr_requests, allocated;

int64_t
times_now (void)
{
  struct timespec t;

  clock_gettime (CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void
times_add (int64_t begin, int64_t end)
{
  if (nr_requests == allocated) {
    allocated = allocated > 0 ? 2 * allocated : 65536;
    requests = realloc (requests, allocated * sizeof *requests);
    if (requests == NULL) {
      perror ("guest-load: realloc");
      exit (EXIT_FAILURE);
    }
  }
  requests[nr_requests++] = (struct request){ .begin = begin, .end = end };
}

uint64_t
times_count (void)
{
  return nr_requests;
}

static int
compare_waits (const void *a, const void *b)
{
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

  return (x > y) - (x < y);
}

/* The smallest wait that so many percent do not exceed, in ms. */
static double
percentile (const int64_t *waits, size_t n, unsigned percent)
{
  const size_t rank = (n * percent + 99) / 100;

  return n == 0 ? 0 : (double)waits[rank > 0 ? rank - 1 : 0] / 1e6;
}

static json_t *
window (const char *name, int64_t begin, int64_t end)
{
  CLEANUP_FREE int64_t *waits =
    malloc ((nr_requests > 0 ? nr_requests : 1) * sizeof *waits);
  struct request longest = { .begin = 0 };
  size_t n = 0, answered = 0;

  if (waits == NULL)
    return NULL;
  for (size_t i = 0; i < nr_requests; i++) {
    const struct request *r = &requests[i];

    if (r->begin < end && r->end > begin) {
      waits[n++] = r->end - r->begin;
      if (r->end - r->begin > longest.end - longest.begin)
        longest = *r;
    }
    if (r->end >= begin && r->end < end)
      answered++;
  }
  qsort (waits, n, sizeof waits[0], compare_waits);
  return json_pack (
    "{s:s, s:f, s:I, s:f, s:f, s:f, s:f}", "name", name, "seconds",
    (double)(end - begin) / 1e9, "requests", (json_int_t)answered, "median_ms",
    percentile (waits, n, 50), "p99_ms", percentile (waits, n, 99),
    "longest_ms", percentile (waits, n, 100), "longest_begin_time",
    (double)longest.begin / 1e9);
}

json_t *
times_windows (const char *path)
{
  json_t *windows = json_array ();
  char line[256], name[32];
  double begin, end;
  bool good = true;
  FILE *fp = fopen (path, "re");

  while (good && fp != NULL && fgets (line, sizeof line, fp) != NULL)
    good = sscanf (line, "%31s %lf %lf", name, &begin, &end) == 3 &&
           json_array_append_new (windows, window (name, (int64_t)(begin * 1e9),
                                                   (int64_t)(end * 1e9))) == 0;
  if (fp == NULL || !good) {
    json_decref (windows);
    windows = NULL;
  }
  if (fp != NULL)
    fclose (fp);
  return windows;
}
