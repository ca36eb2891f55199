/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty map while calls fail (R14): each that is made, once, and each and
 * all that follow it.
 *
 * Whatever fails, the next process finds a map that is void, or cannot be
 * believed, or one in which nothing is missing; and where none of these could
 * be had that is said (DIRTY_MAP_STUCK).
 */

#include <stdbool.h>

#include "dirty-map-unit.h"
#include "failing-calls.h"

/* Two blocks, the second one short. */
#define CHUNKS (DIRTY_MAP_BLOCK_WORDS * 64 + 100)
#define DISK (CHUNKS * CHUNK)
#define MARKED 77 /* the chunk that is written to */

#define OLD_ID 7
#define NEW_ID 8

static char path[] = "./dirty-map";
static struct dirty_map_file *file;
static struct dirty_map *map;
static char *why;
static bool sync_wanted;

static struct dirty_map_header
header_of (uint64_t id)
{
  return header_of_disk (id, DISK);
}

static void
ignore (void *opaque, int error, bool voided)
{
  (void)opaque;
  (void)error;
  (void)voided;
}

static bool
open_map (void)
{
  file = dirty_map_file_new (path, "", sync_wanted);
  if (file == NULL)
    return false;
  map = dirty_map_new (file, DISK, CHUNK, ignore, NULL);
  return map != NULL;
}

static void
close_map (void)
{
  dirty_map_free (map);
  map = NULL;
  dirty_map_file_free (file);
  file = NULL;
  free (why);
  why = NULL;
}

static bool
load (uint64_t id)
{
  const struct dirty_map_header h = header_of (id);
  uint64_t damaged;

  return dirty_map_file_open (file, &why) == 0 &&
         dirty_map_load (map, &h, &damaged) == 0;
}

/* ---- Before ------------------------------------------------------------- */

static void
nothing_before (void)
{
  unlink (path);
}

/* A map that says that nothing is dirty. */
static void
clean_before (void)
{
  const struct dirty_map_header h = header_of (OLD_ID);
  const uint64_t words[DIRTY_MAP_BLOCK_WORDS] = { 0 };

  unlink (path);
  assert (open_map () && dirty_map_begin (map, &h, &why) == 0);
  for (uint64_t b = 0; b < dirty_map_blocks (DISK, CHUNK); b++)
    assert (dirty_map_file_write (file, b, words) == 0);
  close_map ();
}

/* ---- What the next process finds ---------------------------------------- */

enum found { UNBELIEVED, OLD, NEW };

static enum found
find (uint64_t words[DIRTY_MAP_BLOCK_WORDS])
{
  struct dirty_map_file *f = dirty_map_file_new (path, "", true);
  enum found found = UNBELIEVED;
  char *text = NULL;

  assert (f != NULL);
  if (dirty_map_file_open (f, &text) == 0 &&
      f->header.state != DIRTY_MAP_VOID) {
    found = f->header.id == NEW_ID ? NEW : OLD;
    if (dirty_map_file_read (f, 0, words) == -1) /* all of it is dirty then */
      memset (words, 0xff, DIRTY_MAP_BLOCK_WORDS * sizeof *words);
  }
  free (text);
  dirty_map_file_free (f);
  return found;
}

static bool
has (const uint64_t words[DIRTY_MAP_BLOCK_WORDS], uint64_t chunk)
{
  return (words[chunk / 64] >> chunk % 64 & 1) != 0;
}

static bool
has_all (const uint64_t words[DIRTY_MAP_BLOCK_WORDS])
{
  for (size_t i = 0; i < DIRTY_MAP_BLOCK_WORDS; i++)
    if (words[i] != UINT64_MAX)
      return false;
  return true;
}

/* ---- Every call --------------------------------------------------------- */

struct scenario {
  void (*before) (void);
  bool (*act) (void);        /* whether it worked, as far as it says */
  void (*judge) (bool good); /* what is found then */
};

static enum dirty_map_life life; /* when act returned */
static unsigned long failures;

/* False: no call is the n-th. */
static bool
try_call (const struct scenario *s, unsigned long n, bool lasts)
{
  bool good;

  s->before ();
  errno = 0;
  failing_arm (n, lasts);
  good = s->act ();
  failing_disarm ();
  CU_ASSERT (good || errno != 0);
  life = map != NULL ? dirty_map_life (map) : DIRTY_MAP_NONE;
  close_map ();
  s->judge (good);
  failures += failing.failed;
  if (failing.failed == 0)
    CU_ASSERT_TRUE (good);
  if (CU_get_number_of_failures () > 0)
    printf ("\n  call %lu, %s, %s\n", n + 1, failing.first,
            lasts ? "and those after it" : "once");
  return failing.failed > 0;
}

static void
try_all (const struct scenario *s)
{
  for (int sync = 0; sync < 2; sync++) {
    sync_wanted = sync != 0;
    for (int lasts = 0; lasts < 2; lasts++)
      for (unsigned long n = 0; try_call (s, n, lasts); n++)
        ;
  }
}

/* ---- A new one ---------------------------------------------------------- */

static bool
begin_act (void)
{
  const struct dirty_map_header h = header_of (NEW_ID);

  return open_map () && dirty_map_begin (map, &h, &why) == 0;
}

/* Nothing but a whole one is believed. */
static void
begin_judge (bool good)
{
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];
  const enum found found = find (words);

  CU_ASSERT (!good || found == NEW);
  CU_ASSERT (found != NEW || has_all (words));
}

static void
test_begin (void)
{
  try_all (&(struct scenario){ nothing_before, begin_act, begin_judge });
  try_all (&(struct scenario){ clean_before, begin_act, begin_judge });
}

/* ---- A write ------------------------------------------------------------ */

/* If the map cannot be loaded nobody writes. */
static bool
mark_act (void)
{
  if (!open_map () || !load (OLD_ID))
    return false;
  dirty_map_mark (map, MARKED * CHUNK, 512);
  return true;
}

static void
mark_judge (bool good)
{
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];

  if (!good || life == DIRTY_MAP_STUCK)
    return;
  if (find (words) != UNBELIEVED) {
    CU_ASSERT (life == DIRTY_MAP_LIVE && has (words, MARKED));
  }
  else {
    CU_ASSERT (failing.failed > 0);
  }
}

static void
test_mark (void)
{
  try_all (&(struct scenario){ clean_before, mark_act, mark_judge });
}

/* ---- Clearing ----------------------------------------------------------- */

static bool
clear_act (void)
{
  uint64_t bits[DIRTY_MAP_BLOCK_WORDS];

  memset (bits, 0xff, sizeof bits);
  if (!mark_act ())
    return false;
  if (dirty_map_clear_begin (map, true)) {
    bits[MARKED / 64] = 0;
    dirty_map_clear (map, 0, bits, DIRTY_MAP_BLOCK_WORDS);
    dirty_map_clear_end (map);
  }
  return true;
}

static void
all_before (void)
{
  const struct dirty_map_header h = header_of (OLD_ID);

  unlink (path);
  assert (open_map () && dirty_map_begin (map, &h, &why) == 0);
  close_map ();
}

/* What was not cleared is marked. */
static void
test_clear (void)
{
  try_all (&(struct scenario){ all_before, clear_act, mark_judge });
}

/* ---- Its header --------------------------------------------------------- */

static bool
set_act (void)
{
  struct dirty_map_header h = header_of (NEW_ID);

  return open_map () && load (OLD_ID) && dirty_map_set (map, &h) == 0;
}

static void
set_judge (bool good)
{
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];
  const enum found found = find (words);

  CU_ASSERT (!good || found == NEW);
  /* Where it was live and is not, it is void, or known to be stuck. */
  CU_ASSERT (good || life != DIRTY_MAP_LIVE || failing.failed == 0);
}

static bool
void_act (void)
{
  return open_map () && load (OLD_ID) && dirty_map_void (map) == 0;
}

static void
void_judge (bool good)
{
  uint64_t words[DIRTY_MAP_BLOCK_WORDS];

  CU_ASSERT (!good || find (words) == UNBELIEVED);
  CU_ASSERT_NOT_EQUAL (life, DIRTY_MAP_LIVE);
}

/* Of a header that is not known nothing can be said but that it must not hold.
 */
static void
rotten_before (void)
{
  FILE *rotten = fopen (path, "w");

  assert (rotten != NULL && fputs ("rotten", rotten) >= 0 &&
          fclose (rotten) == 0);
}

static bool
void_rotten_act (void)
{
  if (!open_map ())
    return false;
  (void)dirty_map_file_open (file, &why);
  return dirty_map_file_void (file) == 0;
}

static void
gone_judge (bool good)
{
  CU_ASSERT (!good || access (path, F_OK) == -1);
}

static bool
void_unopened_act (void)
{
  return open_map () && dirty_map_file_void (file) == 0;
}

static void
test_header (void)
{
  try_all (&(struct scenario){ clean_before, set_act, set_judge });
  try_all (&(struct scenario){ clean_before, void_act, void_judge });
  try_all (&(struct scenario){ clean_before, void_unopened_act, void_judge });
  try_all (&(struct scenario){ rotten_before, void_rotten_act, gone_judge });
}

/* ---- Somebody else's ---------------------------------------------------- */

static void
strange_before (void)
{
  unlink (path);
  assert (mkdir (path, 0700) == 0);
}

static bool
strange_act (void)
{
  return !void_unopened_act ();
}

static void
strange_judge (bool good)
{
  struct stat st;

  (void)good;
  CU_ASSERT (stat (path, &st) == 0 && S_ISDIR (st.st_mode));
  rmdir (path);
}

static void
test_strange (void)
{
  try_all (&(struct scenario){ strange_before, strange_act, strange_judge });
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "a new one", test_begin },      { "a write", test_mark },
    { "clearing", test_clear },       { "its header", test_header },
    { "what is none", test_strange }, CU_TEST_INFO_NULL,
  };
  const int result =
    main_in_directory ("dirty map whose calls fail", tests, path);

  printf ("%lu calls failed\n", failures);
  return result;
}
