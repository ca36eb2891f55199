/* SPDX-License-Identifier: BSD-3-Clause */
/* Loaded with LD_PRELOAD: the wall clock is ahead by as many seconds as there
 * are in the file that WALL_CLOCK names, and right while that is not there.
 */

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

time_t
time (time_t *t)
{
  const char *const path = getenv ("WALL_CLOCK");
  FILE *fp = path != NULL ? fopen (path, "re") : NULL;
  struct timespec now;
  long ahead = 0;

  clock_gettime (CLOCK_REALTIME, &now);
  if (fp != NULL && fscanf (fp, "%ld", &ahead) != 1)
    ahead = 0;
  if (fp != NULL)
    fclose (fp);
  now.tv_sec += ahead;
  if (t != NULL)
    *t = now.tv_sec;
  return now.tv_sec;
}
