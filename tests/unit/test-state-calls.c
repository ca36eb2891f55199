/* SPDX-License-Identifier: BSD-3-Clause */
/* The files of migrate-dir while calls fail: each that is made, once, and each
 * and all that follow it.
 *
 * What is on the disk afterwards is what was there before or what was to be
 * there, and whole; what has failed is told, unless it makes no difference; and
 * what is not known is never taken for good: not for a destination that was
 * never written to, not for writes that were never kept, not for an error that
 * nobody is owed, and not for a clean end.
 */

#include <assert.h>
#include <inttypes.h>
#include <sys/un.h>

#include <nbdkit-filter.h>

#include "base/config.h"
#include "gaps/run-as.h"
#include "state/directory.h"
#include "state/history-file.h"
#include "state/kept-file.h"
#include "state/mark-file.h"
#include "state/owed-file.h"
#include "failing-calls.h"
#include "unit.h"

/* ---- What the files' code asks for ------------------------------------- */

struct config config = {
  .dir = (char *)"./d",
  .control = (char *)"./d/control",
  .state_sync = true,
};

static uid_t run_as;
static char said[4096];

uid_t
run_as_user (void)
{
  return run_as;
}

void
nbdkit_error (const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (said, sizeof said, fmt, args);
  va_end (args);
}

void
nbdkit_debug (const char *fmt, ...)
{
  (void)fmt;
}

/* ---- Every call -------------------------------------------------------- */

struct scenario {
  void (*before) (void);
  bool (*act) (void);        /* whether it worked, as far as it says */
  void (*judge) (bool good); /* what is left */
};

static unsigned long failures;
static char *why; /* what act said of a failure; freed here */

/* False: no call is the n-th. */
static bool
try_call (const struct scenario *s, unsigned long n, bool lasts)
{
  bool good;

  s->before ();
  said[0] = '\0';
  errno = 0;
  failing_arm (n, lasts);
  good = s->act ();
  failing_disarm ();
  CU_ASSERT (good || errno != 0 || said[0] != '\0' || why != NULL);
  free (why);
  why = NULL;
  s->judge (good);
  failures += failing.failed;
  if (CU_get_number_of_failures () > 0)
    printf ("\n  call %lu, %s, %s\n", n + 1, failing.first,
            lasts ? "and those after it" : "once");
  if (failing.failed == 0)
    CU_ASSERT_TRUE (good);
  return failing.failed > 0;
}

static void
try_all (const struct scenario *s)
{
  for (int lasts = 0; lasts < 2; lasts++)
    for (unsigned long n = 0; try_call (s, n, lasts); n++)
      ;
}

static bool
is_there (const char *path)
{
  return access (path, F_OK) == 0;
}

static void
put_text (const char *path, const char *text)
{
  FILE *file = fopen (path, "w");

  assert (file != NULL);
  fputs (text, file);
  assert (fclose (file) == 0);
}

/* ---- History ----------------------------------------------------------- */

static struct history
history_of (const char *names)
{
  struct history h;

  history_init (&h);
  h.complete = true;
  for (; *names != '\0'; names++)
    assert (history_add_earlier (&h, names, 1));
  return h;
}

static void
history_before (void)
{
  struct history h = history_of ("a");
  char *no;

  assert (history_write (&h, "./history", true, &no) == 0);
  history_destroy (&h);
}

static struct history history_found;

static bool
read_history (void)
{
  history_destroy (&history_found);
  history_init (&history_found);
  history_read (&history_found, "./history", &why);
  return history_found.complete;
}

static bool
history_act (void)
{
  static struct history h;
  int r;

  if (h.earlier.n == 0) {
    failing.armed = false;
    h = history_of ("ab");
    failing.armed = true;
  }
  r = history_write (&h, "./history", true, &why);
  return r == 0;
}

static void
history_judge (bool good)
{
  CU_ASSERT_TRUE (read_history ());
  CU_ASSERT (history_found.earlier.n == 2 ||
             (!good && history_found.earlier.n == 1));
}

static bool
history_forget_act (void)
{
  const struct history h = { .complete = false };

  return history_write (&h, "./history", true, &why) == 0;
}

static void
history_forget_judge (bool good)
{
  CU_ASSERT (!good || !is_there ("history"));
  CU_ASSERT (!is_there ("history") || read_history ());
}

static bool
history_read_act (void)
{
  read_history ();
  return true;
}

/* Less than all is nothing. */
static void
history_read_judge (bool good)
{
  (void)good;
  CU_ASSERT (!history_found.complete || history_found.earlier.n == 1);
  CU_ASSERT (history_found.complete || failing.failed > 0);
}

static void
test_history (void)
{
  try_all (&(struct scenario){ history_before, history_act, history_judge });
  try_all (&(struct scenario){ history_before, history_forget_act,
                               history_forget_judge });
  try_all (
    &(struct scenario){ history_before, history_read_act, history_read_judge });
  history_destroy (&history_found);
}

/* ---- Kept writes ------------------------------------------------------- */

static const struct kept_entry kept_entries[] = {
  { KEPT_WRITE, 0, 512, 512, (const uint8_t[512]){ 1 } },
  { KEPT_ZERO, 0, 1024, 4096, NULL },
};

static int
write_kept (uint64_t generation)
{
  const struct kept k = {
    .export_name = "",
    .uri = "nbd://a",
    .disk_bytes = 65536,
    .generation = generation,
    .entries = kept_entries,
    .nr_entries = 2,
  };

  return kept_file_write ("./kept", &k, &why);
}

static struct kept_file kept_found;
static enum kept_status kept_status;

static void
kept_before (void)
{
  assert (write_kept (1) == 0);
}

static bool
kept_act (void)
{
  return write_kept (2) == 0;
}

static bool
kept_read_act (void)
{
  kept_status = kept_file_read ("./kept", "", &kept_found, &why);
  return true;
}

/* Writes that are there are never overlooked, nor taken for others. */
static void
kept_read_judge (bool good)
{
  (void)good;
  CU_ASSERT (kept_status == KEPT_OK ||
             (kept_status == KEPT_BAD && failing.failed > 0));
  if (kept_status != KEPT_OK)
    return;
  CU_ASSERT_EQUAL (kept_found.kept.nr_entries, 2);
  CU_ASSERT_EQUAL (kept_found.bytes, 512 + 4096);
  kept_file_free (&kept_found);
}

static void
kept_judge (bool good)
{
  kept_read_act ();
  free (why);
  why = NULL;
  CU_ASSERT_EQUAL_FATAL (kept_status, KEPT_OK);
  CU_ASSERT (kept_found.kept.generation == 2 ||
             (!good && kept_found.kept.generation == 1));
  kept_file_free (&kept_found);
}

static bool
kept_remove_act (void)
{
  return kept_file_remove ("./kept") == 0;
}

static void
kept_remove_judge (bool good)
{
  CU_ASSERT (!good || !is_there ("kept"));
}

static void
test_kept (void)
{
  try_all (&(struct scenario){ kept_before, kept_act, kept_judge });
  try_all (&(struct scenario){ kept_before, kept_read_act, kept_read_judge });
  try_all (
    &(struct scenario){ kept_before, kept_remove_act, kept_remove_judge });
}

/* ---- What is owed ------------------------------------------------------ */

static void
owed_before (void)
{
  assert (owed_file_write ("./owed", true, &why) == 0);
}

static void
nothing_owed_before (void)
{
  assert (owed_file_write ("./owed", false, &why) == 0);
}

static void
no_file_before (void)
{
  unlink ("owed");
}

static bool owed_found;

static bool
owed_read_act (void)
{
  owed_found = owed_file_read ("./owed", &why);
  return true;
}

static void
owed_read_judge (bool good)
{
  (void)good;
  CU_ASSERT_TRUE (owed_found);
}

static bool
owed_act (void)
{
  return owed_file_write ("./owed", true, &why) == 0;
}

static void
owed_judge (bool good)
{
  CU_ASSERT (owed_file_read ("./owed", &why) || !good);
  CU_ASSERT_PTR_NULL (why); /* it is whole */
}

static bool
owed_make_act (void)
{
  return owed_file_make ("./owed", &why) == 0;
}

static void
owed_made_judge (bool good)
{
  CU_ASSERT (!good || is_there ("owed"));
}

static void
test_owed (void)
{
  try_all (&(struct scenario){ owed_before, owed_read_act, owed_read_judge });
  try_all (&(struct scenario){ nothing_owed_before, owed_act, owed_judge });
  try_all (&(struct scenario){ owed_before, owed_make_act, owed_judge });
  try_all (
    &(struct scenario){ no_file_before, owed_make_act, owed_made_judge });
  put_text ("owed", "something else");
  CU_ASSERT_TRUE (owed_file_read ("./owed", &why));
  CU_ASSERT_PTR_NOT_NULL (why);
  free (why);
  why = NULL;
}

/* ---- The mark ---------------------------------------------------------- */

static int
set_mark (const char *place)
{
  const struct mark m = { .place = place, .dir = "/d" };

  return mark_file_set ("./mark", &m, true, &why);
}

static void
mark_before (void)
{
  assert (set_mark ("nbd://a") != -1);
}

static bool
mark_act (void)
{
  return set_mark ("nbd://b") == 1;
}

static bool
mark_remove_act (void)
{
  return set_mark (NULL) == 1;
}

/* Whole, whichever it is. */
static void
check_mark (void)
{
  CU_ASSERT_TRUE (is_there ("mark"));
  CU_ASSERT_EQUAL (mark_file_check ("./mark", &why), 0);
}

static void
mark_judge (bool good)
{
  check_mark ();
  if (good)
    CU_ASSERT_EQUAL (set_mark ("nbd://b"), 0); /* it is so already */
}

static void
mark_remove_judge (bool good)
{
  if (good)
    CU_ASSERT_FALSE (is_there ("mark"));
  if (is_there ("mark"))
    check_mark ();
}

static void
somebodys_before (void)
{
  put_text ("mark", "somebody's disk");
}

static bool
mark_check_act (void)
{
  if (mark_file_check ("./mark", &why) == 0)
    return false;
  free (why);
  return set_mark ("nbd://b") == -1;
}

static void
somebodys_judge (bool good)
{
  char text[32] = "";
  FILE *file = fopen ("mark", "r");

  (void)good;
  CU_ASSERT_PTR_NOT_NULL (fgets (text, sizeof text, file));
  CU_ASSERT_STRING_EQUAL (text, "somebody's disk");
  fclose (file);
}

/* What each says, and whose it is. */
static void
test_marks (void)
{
  struct mark m = { .place = "nbd://a", .dir = "/d", .origin = 5 };
  const struct mark none = { .dir = "/d", .origin = 5 };
  FILE *file;

  unlink ("mark");
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &none, false, &why), 0);
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &m, false, &why), 1);
  m.handed_over = true;
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &m, false, &why), 1);
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &m, true, &why), 0);
  m.origin = 6; /* that of another one */
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &m, true, &why), -1);
  CU_ASSERT_PTR_NOT_NULL (strstr (why, "another migrate-dir"));
  free (why);
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &none, false, &why), 1);
  CU_ASSERT_FALSE (is_there ("mark"));

  /* A long one, and one that is none. */
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &m, true, &why), 1);
  file = fopen ("mark", "a");
  for (unsigned i = 0; i < 5000; i++)
    fputs ("and more\n", file);
  fclose (file);
  CU_ASSERT_EQUAL (mark_file_check ("./mark", &why), 0);
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &m, true, &why), 1);
  put_text ("mark", "short");
  CU_ASSERT_EQUAL (mark_file_check ("./mark", &why), -1);
  free (why);
  CU_ASSERT_EQUAL (mark_file_set ("./mark", &none, true, &why), 0);
  free (why);
  why = NULL;
  unlink ("mark");
}

/* That of another directory stays. */
static void
foreign_before (void)
{
  const struct mark m = { .place = "nbd://a", .dir = "/other" };

  unlink ("mark");
  assert (mark_file_set ("./mark", &m, true, &why) == 1);
}

static bool
foreign_act (void)
{
  return set_mark ("nbd://b") == -1;
}

static void
foreign_judge (bool good)
{
  (void)good;
  check_mark ();
  CU_ASSERT_EQUAL (set_mark ("nbd://b"), -1);
  free (why);
  why = NULL;
}

static void
test_mark (void)
{
  try_all (&(struct scenario){ mark_before, mark_act, mark_judge });
  try_all (
    &(struct scenario){ mark_before, mark_remove_act, mark_remove_judge });
  try_all (
    &(struct scenario){ somebodys_before, mark_check_act, somebodys_judge });
  try_all (&(struct scenario){ foreign_before, foreign_act, foreign_judge });
  unlink ("mark");
}

/* ---- The directory ----------------------------------------------------- */

static void
empty_directory (void)
{
  static const char *const names[] = { "d/lock",       "d/control",   "d/link",
                                       "d/state",      "d/state.x",   "d/other",
                                       "d/statements", "d/.new-state" };

  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    unlink (names[i]);
  rmdir ("d");
}

/* As another process has left it: what is in its lock, and its socket. */
static void
leave_directory (const char *lock)
{
  const struct sockaddr_un address = { AF_UNIX, "d/control" };
  const int fd = socket (AF_UNIX, SOCK_STREAM, 0);

  empty_directory ();
  assert (mkdir ("d", 0700) == 0);
  put_text ("d/lock", lock);
  put_text ("d/state", "");
  put_text ("d/state.x", "");
  assert (bind (fd, (const struct sockaddr *)&address, sizeof address) == 0);
  close (fd);
}

static void
killed_before (void)
{
  leave_directory ("99999\n");
}

static void
late_before (void)
{
  leave_directory ("late state\n.\n");
}

static void
torn_before (void)
{
  leave_directory ("late state.x\nlate sta");
}

static void
clean_before (void)
{
  leave_directory ("");
}

/* More than anybody writes there. */
static void
long_before (void)
{
  leave_directory ("late state\n");
  assert (truncate ("d/lock", 2 << 20) == 0);
}

static bool
claim_act (void)
{
  return directory_claim () == 0 && directory_check () == 0;
}

static void
claim_again (void)
{
  bool good;

  directory_release (NULL);
  good = claim_act ();
  CU_ASSERT_TRUE (good);
  if (!good)
    printf ("\n  again: %s\n", said);
  CU_ASSERT_NOT_EQUAL (directory_socket (), -1);
}

static void
claim_judge (bool good)
{
  if (good)
    CU_ASSERT_NOT_EQUAL (directory_socket (), -1);
  claim_again ();
  directory_release (NULL);
}

/* Of what may land late nothing is forgotten. */
static void
unclean_judge (bool good)
{
  if (good) {
    CU_ASSERT_NOT_EQUAL (directory_unclean_ms ("state"), 0);
    CU_ASSERT_NOT_EQUAL (directory_unclean_ms (NULL), 0);
  }
  claim_judge (good);
}

static void
late_judge (bool good)
{
  if (good && failing.failed == 0)
    CU_ASSERT_EQUAL (directory_unclean_ms ("state.x"), 0);
  unclean_judge (good);
}

static void
clean_judge (bool good)
{
  if (good && failing.failed == 0)
    CU_ASSERT_EQUAL (directory_unclean_ms ("state"), 0);
  claim_judge (good);
}

static bool
is_late (const char *record_name)
{
  return strcmp (record_name, "state") == 0;
}

static void
claimed_before (void)
{
  clean_before ();
  assert (claim_act ());
}

static bool
release_act (void)
{
  directory_release (is_late);
  return true;
}

static void
release_judge (bool good)
{
  late_judge (good && claim_act ());
}

static void
test_directory (void)
{
  try_all (&(struct scenario){ empty_directory, claim_act, claim_judge });
  try_all (&(struct scenario){ killed_before, claim_act, unclean_judge });
  try_all (&(struct scenario){ late_before, claim_act, late_judge });
  try_all (&(struct scenario){ torn_before, claim_act, unclean_judge });
  try_all (&(struct scenario){ long_before, claim_act, unclean_judge });
  try_all (&(struct scenario){ clean_before, claim_act, clean_judge });
  try_all (&(struct scenario){ claimed_before, release_act, release_judge });
  empty_directory ();
}

/* Who has it is not known where its file cannot be read. */
static bool
in_use_act (void)
{
  return directory_claim () == -1;
}

static int locked_fd;

static void
in_use_before (void)
{
  clean_before ();
  locked_fd = open ("d/lock", O_RDWR);
  assert (pwrite (locked_fd, "4711\n", 5, 0) == 5 &&
          flock (locked_fd, LOCK_EX) == 0);
}

static void
in_use_judge (bool good)
{
  CU_ASSERT_TRUE (good);
  CU_ASSERT_STRING_NOT_EQUAL (said, "");
  close (locked_fd);
  directory_release (is_late); /* it was never claimed */
}

/* Without syncs; and what has not ended says so, whatever is asked. */
static void
test_directory_without_sync (void)
{
  config.state_sync = false;
  try_all (&(struct scenario){ killed_before, claim_act, unclean_judge });
  config.state_sync = true;
  clean_before ();
  CU_ASSERT_TRUE (claim_act ());
  CU_ASSERT_EQUAL (directory_unclean_ms (NULL), 0);
  directory_release (NULL);
  CU_ASSERT_TRUE (claim_act ());
  CU_ASSERT_NOT_EQUAL (directory_unclean_ms ("state"), 0);
  directory_release (NULL);
  try_all (&(struct scenario){ in_use_before, in_use_act, in_use_judge });
  empty_directory ();
}

/* A name of a record that cannot be looked for is late. */
static void
test_late_names (void)
{
  late_before ();
  CU_ASSERT_TRUE (claim_act ());
  CU_ASSERT_EQUAL (directory_unclean_ms ("state.x"), 0);
  failing_arm (0, true);
  CU_ASSERT_NOT_EQUAL (directory_unclean_ms ("state.x"), 0);
  failing_disarm ();
  directory_release (NULL);
  empty_directory ();
}

static uid_t
owner_of (const char *path)
{
  struct stat st;

  return stat (path, &st) == 0 ? st.st_uid : (uid_t)-1;
}

static void
given_judge (bool good)
{
  if (good) {
    CU_ASSERT_EQUAL (owner_of ("d/lock"), run_as);
    CU_ASSERT_EQUAL (owner_of ("d/control"), run_as);
    CU_ASSERT_EQUAL (owner_of ("d/state"), run_as);
    CU_ASSERT_EQUAL (owner_of ("d"), run_as);
  }
  claim_judge (good);
}

/* One that was made just now. */
static void
made_judge (bool good)
{
  if (good) {
    CU_ASSERT_EQUAL (owner_of ("d/lock"), run_as);
    CU_ASSERT_EQUAL (owner_of ("d"), run_as);
  }
  claim_judge (good);
}

/* If nobody can see whose it is it is left alone; directory_check says so. */
static void
theirs_judge (bool good)
{
  if (good && failing.failed == 0)
    given_judge (true);
  else
    claim_judge (good);
}

static void
strange_before (void)
{
  clean_before ();
  put_text ("d/other", "");
}

/* A directory that is that user's already. */
static void
theirs_before (void)
{
  strange_before ();
  assert (chown ("d", run_as, (gid_t)-1) == 0);
}

/* Of what begins like one of ours nothing is known. */
static void
similar_before (void)
{
  clean_before ();
  put_text ("d/statements", "");
}

/* What is being written is ours. */
static void
new_before (void)
{
  clean_before ();
  put_text ("d/.new-state", "");
}

static void
not_given_judge (bool good)
{
  CU_ASSERT_NOT_EQUAL (owner_of ("d"), run_as);
  CU_ASSERT_NOT_EQUAL (owner_of ("d/lock"), run_as);
  CU_ASSERT_NOT_EQUAL (owner_of ("d/state"), run_as);
  claim_judge (good);
}

/* To the user that nbdkit is going to run as (-u). */
static void
test_given_away (void)
{
  if (geteuid () != 0) {
    printf ("(skipped: this needs root) ");
    return;
  }
  run_as = 65534;
  try_all (&(struct scenario){ clean_before, claim_act, given_judge });
  try_all (&(struct scenario){ empty_directory, claim_act, made_judge });
  try_all (&(struct scenario){ new_before, claim_act, given_judge });
  try_all (&(struct scenario){ theirs_before, claim_act, theirs_judge });
  try_all (&(struct scenario){ strange_before, claim_act, not_given_judge });
  try_all (&(struct scenario){ similar_before, claim_act, not_given_judge });
  run_as = geteuid ();
  empty_directory ();
}

static void
expect_refusal (const char *what)
{
  said[0] = '\0';
  CU_ASSERT_EQUAL (directory_claim (), -1);
  CU_ASSERT_PTR_NOT_NULL (strstr (said, what));
  if (strstr (said, what) == NULL)
    printf ("\n  not \"%s\": %s\n", what, said);
  directory_release (NULL);
}

static void
test_refused (void)
{
  int fd;

  clean_before ();
  fd = open ("d/lock", O_RDWR);
  assert (pwrite (fd, "4711\n", 5, 0) == 5 && flock (fd, LOCK_EX) == 0);
  expect_refusal ("in use by another nbdkit (process 4711)");
  close (fd);

  clean_before ();
  unlink ("d/control");
  put_text ("d/control", "");
  expect_refusal ("is not a socket");

  clean_before ();
  assert (link ("d/lock", "d/link") == 0);
  expect_refusal ("a hard link");

  clean_before ();
  assert (chmod ("d", 0770) == 0);
  expect_refusal ("its group can write to it");
  empty_directory ();

  put_text ("d", "");
  expect_refusal ("it cannot be opened");
  unlink ("d");
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "the history", test_history },
    { "kept writes", test_kept },
    { "what is owed", test_owed },
    { "marks", test_marks },
    { "the mark", test_mark },
    { "the directory", test_directory },
    { "the directory, without syncs", test_directory_without_sync },
    { "what is late, without memory", test_late_names },
    { "what is given away", test_given_away },
    { "what is refused", test_refused },
    CU_TEST_INFO_NULL,
  };
  char dir[] = "/tmp/test-state-calls-XXXXXX";
  int result;

  umask (022);
  run_as = geteuid ();
  assert (mkdtemp (dir) != NULL && chdir (dir) == 0);
  result = unit_main ("state files whose calls fail", tests);
  printf ("%lu calls failed\n", failures);
  unlink ("history");
  unlink ("owed");
  unlink (".new-history");
  unlink (".new-mark");
  rmdir (dir);
  return result;
}
