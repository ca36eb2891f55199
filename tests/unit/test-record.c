/* SPDX-License-Identifier: BSD-3-Clause */
/* The owner record: R10 and R14 for one file.
 *
 * The heart is a small model of a disk that loses power: this program puts its
 * own pwrite, fdatasync and fsync before the C library's, notes what they are
 * asked to do (or makes them fail), and then builds every file that a crash at
 * any moment could have left: each write since the last sync may be there, be
 * missing or be torn at any sector.  Every such file is read back, and then
 * once more with each slot rotten.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "record.h"
#include "unit.h"

#define DISK_BYTES 1048576
#define DISK_URI "nbd+unix:///?socket=/run/destination"

static char dir[] = "/tmp/test-record-XXXXXX";
static char path[64]; /* of the file of the default export */

/* ---- The disk that loses power ----------------------------------------- */

enum event_kind { EVENT_WRITE, EVENT_SYNC };

struct event {
  enum event_kind kind;
  unsigned slot;
  uint8_t bytes[RECORD_SLOT_BYTES];
};

#define EVENTS_MAX 32

static struct event events[EVENTS_MAX];
static unsigned nr_events;
static bool recording;
static unsigned calls;     /* while recording */
static uint64_t fail_mask; /* bit n: call n fails */
static bool fail_syncs_only;

ssize_t pwrite (int fd, const void *data, size_t count, off_t offset);
int fdatasync (int fd);
int fsync (int fd);

static bool
must_fail (bool is_sync)
{
  const unsigned call = calls++;

  if (!(fail_mask >> call & 1) || (fail_syncs_only && !is_sync))
    return false;
  errno = EIO;
  return true;
}

static struct event *
note (enum event_kind kind)
{
  if (nr_events == EVENTS_MAX)
    abort ();
  events[nr_events].kind = kind;
  return &events[nr_events++];
}

ssize_t
pwrite (int fd, const void *data, size_t count, off_t offset)
{
  if (recording) {
    struct event *e = note (EVENT_WRITE);

    /* A write that fails may have been done all the same. */
    e->slot = offset / RECORD_SLOT_STRIDE;
    if (count != sizeof e->bytes)
      abort ();
    memcpy (e->bytes, data, count);
    if (must_fail (false))
      return -1;
  }
  return syscall (SYS_pwrite64, fd, data, count, offset);
}

static int
sync_hook (long number, int fd)
{
  if (recording) {
    if (must_fail (true))
      return -1;
    note (EVENT_SYNC);
  }
  return syscall (number, fd);
}

int
fdatasync (int fd)
{
  return sync_hook (SYS_fdatasync, fd);
}

int
fsync (int fd)
{
  return sync_hook (SYS_fsync, fd);
}

static void
start_recording (uint64_t failures)
{
  nr_events = 0;
  calls = 0;
  fail_mask = failures;
  recording = true;
}

static void
put_file (const char *name, const void *bytes, size_t count)
{
  const int fd = open (name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

  if (fd == -1 || (count > 0 && write (fd, bytes, count) != (ssize_t)count))
    abort ();
  close (fd);
}

static uint8_t *
get_file (const char *name)
{
  uint8_t *bytes = malloc (RECORD_MAP_OFFSET);
  const int fd = open (name, O_RDONLY);

  if (bytes == NULL || fd == -1 ||
      read (fd, bytes, RECORD_MAP_OFFSET) != RECORD_MAP_OFFSET)
    abort ();
  close (fd);
  return bytes;
}

/* ---- Records ----------------------------------------------------------- */

static struct record
make_record (enum owner owner)
{
  struct record rec = {
    .owner = owner,
    .last_end =
      owner == OWNER_DESTINATION ? RECORD_END_PIVOTED : RECORD_END_NONE,
    .disk_bytes = DISK_BYTES,
    .chunk_bytes = 65536,
    .export_id = 0x0123456789abcdef,
    .origin = 0xfedcba9876543210,
    .delay_ms = 61000,
    .source_delay_ms = 7000,
  };

  if (owner == OWNER_DESTINATION)
    strcpy (rec.destination, DISK_URI);
  return rec;
}

static enum record_status
look (const char *export_name, uint64_t disk_bytes, bool mend,
      struct record *rec, char **why)
{
  struct record_file *f = record_new (dir, export_name, true);
  enum record_status status;

  memset (rec, 0, sizeof *rec);
  rec->owner = OWNER_UNKNOWN;
  status = mend ? record_open (f, disk_bytes, rec, why)
                : record_peek (f, disk_bytes, rec, why);
  record_free (f);
  return status;
}

/* The owner in the file, OWNER_UNKNOWN if it is unreadable. */
static enum owner
owner_in_file (bool mend)
{
  struct record rec;
  char *why;
  const enum record_status status = look ("", DISK_BYTES, mend, &rec, &why);

  if ((status == RECORD_UNREADABLE) != (why != NULL))
    abort ();
  free (why);
  return status == RECORD_OK ? rec.owner : OWNER_UNKNOWN;
}

static struct record_file *
fresh_file (enum owner owner)
{
  struct record_file *f = record_new (dir, "", true);
  struct record rec = make_record (owner);
  char *why;

  unlink (path);
  CU_ASSERT_EQUAL_FATAL (record_open (f, DISK_BYTES, &rec, &why), RECORD_NONE);
  rec = make_record (owner);
  CU_ASSERT_EQUAL_FATAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  CU_ASSERT_PTR_NULL (why);
  return f;
}

/* ---- All crashes ------------------------------------------------------- */

struct crash {
  uint8_t *image;   /* RECORD_MAP_OFFSET bytes */
  unsigned allowed; /* bits 1 << enum owner */
  bool rot;         /* also with each slot rotten */
  unsigned tried;
  unsigned wrong;
};

/* Any single slot may rot while the machine stands still: the owner that was
 * acknowledged, or served, must not change.
 */
static void
try_rot (struct crash *c, const uint8_t *image, enum owner owner)
{
  for (unsigned slot = 0; slot < 2; ++slot) {
    uint8_t *copy = malloc (RECORD_MAP_OFFSET);

    memcpy (copy, image, RECORD_MAP_OFFSET);
    memset (copy + slot * RECORD_SLOT_STRIDE + 64, 0xa5, 512);
    put_file (path, copy, RECORD_MAP_OFFSET);
    free (copy);
    c->wrong += owner_in_file (false) != owner;
    c->wrong += owner_in_file (true) != owner;
    c->tried += 2;
  }
}

static void
try_image (struct crash *c)
{
  enum owner seen, served;
  uint8_t *mended;

  put_file (path, c->image, RECORD_MAP_OFFSET);
  seen = owner_in_file (false);
  served = owner_in_file (true);
  ++c->tried;
  if (!(c->allowed >> seen & 1) || served != seen)
    ++c->wrong;
  if (served == OWNER_UNKNOWN)
    return;
  mended = get_file (path);
  try_rot (c, mended, served);
  free (mended);
  if (c->rot)
    try_rot (c, c->image, seen);
}

/* The events from 'n' on, up to 'end': each may be there, not, or torn. */
static void
try_pending (struct crash *c, unsigned n, unsigned end)
{
  uint8_t before[RECORD_SLOT_BYTES];
  uint8_t *slot;

  while (n < end && events[n].kind != EVENT_WRITE)
    ++n;
  if (n == end) {
    try_image (c);
    return;
  }
  slot = c->image + events[n].slot * RECORD_SLOT_STRIDE;
  memcpy (before, slot, sizeof before);
  for (unsigned sectors = 0; sectors <= 8; ++sectors) {
    memcpy (slot, events[n].bytes, sectors * 512);
    try_pending (c, n + 1, end);
    if (sectors == 0 || sectors == 8)
      continue;
    /* The last sectors without the first ones. */
    memcpy (slot, events[n].bytes, sizeof before);
    memcpy (slot, before, sectors * 512);
    try_pending (c, n + 1, end);
    memcpy (slot, before, sizeof before);
  }
  memcpy (slot, before, sizeof before);
}

/* All that a crash after 'end' events can leave of the file 'start'. */
static void
try_crash (struct crash *c, const uint8_t *start, unsigned end)
{
  unsigned synced = 0;

  c->image = malloc (RECORD_MAP_OFFSET);
  memcpy (c->image, start, RECORD_MAP_OFFSET);
  for (unsigned i = 0; i < end; ++i) {
    if (events[i].kind == EVENT_SYNC)
      synced = i + 1;
  }
  for (unsigned i = 0; i < synced; ++i) {
    if (events[i].kind == EVENT_WRITE)
      memcpy (c->image + events[i].slot * RECORD_SLOT_STRIDE, events[i].bytes,
              RECORD_SLOT_BYTES);
  }
  try_pending (c, synced, end);
  free (c->image);
}

/* ---- Tests ------------------------------------------------------------- */

static void
test_names (void)
{
  static const struct {
    const char *export_name, *file_name;
  } t[] = {
    { "", "state" },
    { "disk", "state.disk" },
    { ".", "state.." },
    { "a/b", "state.a%2Fb" },
    { "../../x", "state...%2F..%2Fx" },
    { "100%", "state.100%25" },
    { "\xc3\xa4 b", "state.%C3%A4%20b" },
  };
  char longest[400];

  for (size_t i = 0; i < sizeof t / sizeof t[0]; ++i) {
    char *name = record_file_name (t[i].export_name);
    char *back = record_export_name (t[i].file_name);

    CU_ASSERT_STRING_EQUAL (name, t[i].file_name);
    CU_ASSERT_PTR_NOT_NULL_FATAL (back);
    CU_ASSERT_STRING_EQUAL (back, t[i].export_name);
    free (name);
    free (back);
  }

  memset (longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  char *one = record_file_name (longest);
  longest[0] = 'y';
  char *two = record_file_name (longest);
  CU_ASSERT (strlen (one) < 200 && strcmp (one, two) != 0);
  CU_ASSERT_PTR_NULL (record_export_name (one));
  CU_ASSERT_PTR_NULL (record_export_name ("control"));
  CU_ASSERT_PTR_NULL (record_export_name ("state."));
  CU_ASSERT_PTR_NULL (record_export_name ("state.%2"));
  CU_ASSERT_PTR_NULL (record_export_name ("state.a b"));
  free (one);
  free (two);
}

static void
test_round_trip (void)
{
  struct record_file *f = fresh_file (OWNER_SOURCE);
  struct record rec = make_record (OWNER_DESTINATION), out;
  struct stat st;
  char *why;

  CU_ASSERT_EQUAL (record_generation (f), 1);
  memset (rec.destination, 'u', RECORD_URI_MAX);
  memset (rec.source, 's', RECORD_SOURCE_MAX);
  rec.last_end = RECORD_END_DETACHED;
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  CU_ASSERT_EQUAL (record_generation (f), 2);
  CU_ASSERT_EQUAL (look ("", DISK_BYTES, true, &out, &why), RECORD_OK);
  CU_ASSERT_EQUAL (out.owner, OWNER_DESTINATION);
  CU_ASSERT_EQUAL (out.last_end, RECORD_END_DETACHED);
  CU_ASSERT_EQUAL (out.disk_bytes, DISK_BYTES);
  CU_ASSERT_EQUAL (out.chunk_bytes, 65536);
  CU_ASSERT_EQUAL (out.export_id, 0x0123456789abcdef);
  CU_ASSERT_EQUAL (out.origin, 0xfedcba9876543210);
  CU_ASSERT_EQUAL (out.delay_ms, 61000);
  CU_ASSERT_EQUAL (out.source_delay_ms, 7000);
  CU_ASSERT_STRING_EQUAL (out.destination, rec.destination);
  CU_ASSERT_STRING_EQUAL (out.source, rec.source);
  for (enum owner owner = OWNER_SOURCE; owner <= OWNER_FENCED; owner++) {
    rec.owner = owner;
    CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
    CU_ASSERT_EQUAL (look ("", DISK_BYTES, true, &out, &why), RECORD_OK);
    CU_ASSERT_EQUAL (out.owner, owner);
    CU_ASSERT_STRING_EQUAL (out.source, rec.source);
  }
  CU_ASSERT_EQUAL (stat (path, &st), 0);
  CU_ASSERT_EQUAL (st.st_size, RECORD_MAP_OFFSET);
  CU_ASSERT_EQUAL (st.st_mode & 07777, 0600);

  rec = make_record (OWNER_UNKNOWN);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_KEPT);
  CU_ASSERT_PTR_NOT_NULL (why);
  free (why);
  rec = make_record (OWNER_DESTINATION);
  rec.destination[0] = '\0';
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_KEPT);
  free (why);
  CU_ASSERT_EQUAL (owner_in_file (false), OWNER_FENCED);
  record_free (f);
}

static void
test_crash_in_write (void)
{
  struct record_file *f = fresh_file (OWNER_SOURCE);
  struct record rec = make_record (OWNER_DESTINATION);
  uint8_t *start = get_file (path);
  const unsigned either = 1 << OWNER_SOURCE | 1 << OWNER_DESTINATION;
  struct crash c = { 0 };
  char *why;

  start_recording (0);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  recording = false;
  for (unsigned end = 0; end <= nr_events; ++end) {
    const bool acknowledged = end == nr_events;

    c.rot = acknowledged;
    c.allowed = acknowledged ? 1 << OWNER_DESTINATION : either;
    if (end == 0)
      c.allowed = 1 << OWNER_SOURCE;
    try_crash (&c, start, end);
  }
  printf ("%u files ", c.tried);
  CU_ASSERT (c.tried > 100);
  CU_ASSERT_EQUAL (c.wrong, 0);
  free (start);
  record_free (f);
}

/* Every pattern of failures of the calls of one record_write.  What it says
 * must be true of every file that a crash right after it could leave.
 */
static void
try_failures (uint64_t failures, struct crash *c, unsigned outcomes[3])
{
  struct record_file *f = fresh_file (OWNER_SOURCE);
  struct record rec = make_record (OWNER_DESTINATION);
  uint8_t *start = get_file (path);
  enum record_outcome outcome;
  char *why;

  start_recording (failures);
  outcome = record_write (f, &rec, &why);
  recording = false;
  ++outcomes[outcome];
  c->wrong += (outcome == RECORD_WRITTEN) != (why == NULL);
  free (why);

  c->rot = outcome != RECORD_UNSURE;
  c->allowed = outcome == RECORD_WRITTEN ? 1 << OWNER_DESTINATION
               : outcome == RECORD_KEPT  ? 1 << OWNER_SOURCE
                                         : ~0u;
  try_crash (c, start, nr_events);
  c->wrong += outcome == RECORD_UNSURE ? record_generation (f) != 1
                                       : record_generation (f) < 2;

  /* And it can be written again, whatever happened. */
  put_file (path, start, RECORD_MAP_OFFSET);
  free (start);
  c->wrong += record_write (f, &rec, &why) != RECORD_WRITTEN;
  c->wrong += record_generation (f) < 2;
  record_free (f);
}

static void
test_failures (void)
{
  struct crash c = { 0 };
  unsigned outcomes[3] = { 0 };

  /* Up to four calls for the record, four to take it back.  Only failing
   * syncs leave many writes pending: enumerate those sparsely.
   */
  for (unsigned n = 0; n < 4; ++n)
    try_failures (UINT64_C (1) << n, &c, outcomes);
  try_failures (UINT64_C (3), &c, outcomes);
  try_failures (UINT64_C (6), &c, outcomes);
  printf ("%u files, %u written, %u kept, %u unsure ", c.tried, outcomes[0],
          outcomes[1], outcomes[2]);
  CU_ASSERT_EQUAL (c.wrong, 0);
  CU_ASSERT_EQUAL (outcomes[RECORD_KEPT], 4);
  CU_ASSERT_EQUAL (outcomes[RECORD_UNSURE], 2);
}

/* A crash while record_open mends what an earlier crash left. */
static void
test_crash_in_mending (void)
{
  struct record_file *f = fresh_file (OWNER_SOURCE);
  struct record rec = make_record (OWNER_DESTINATION);
  uint8_t *start = get_file (path), *half = get_file (path);
  struct crash c = { 0 };
  char *why;

  start_recording (0);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  recording = false;
  record_free (f);
  CU_ASSERT_EQUAL_FATAL (events[0].kind, EVENT_WRITE);
  CU_ASSERT_EQUAL_FATAL (events[0].slot, 0);
  memcpy (half, events[0].bytes, RECORD_SLOT_BYTES);

  /* The first write is in memory only: 'half' is what is read, 'start' what
   * is on the disk, and a power failure may come at any moment.
   */
  put_file (path, half, RECORD_MAP_OFFSET);
  start_recording (0);
  memmove (&events[1], &events[0], sizeof events[0]);
  nr_events = 1;
  CU_ASSERT_EQUAL (owner_in_file (true), OWNER_DESTINATION);
  recording = false;
  CU_ASSERT (nr_events > 2);
  for (unsigned end = 1; end <= nr_events; ++end) {
    c.allowed = 1 << OWNER_DESTINATION;
    if (end < nr_events)
      c.allowed |= 1 << OWNER_SOURCE;
    c.rot = end == nr_events;
    try_crash (&c, start, end);
  }
  CU_ASSERT (c.tried > 100);
  CU_ASSERT_EQUAL (c.wrong, 0);

  /* The old slot cannot be mended: nobody is served. */
  put_file (path, half, RECORD_MAP_OFFSET);
  start_recording (~UINT64_C (0));
  CU_ASSERT_EQUAL (owner_in_file (true), OWNER_UNKNOWN);
  recording = false;
  free (start);
  free (half);
}

/* A rotten slot that cannot be mended is a warning: the other is right. */
static void
test_rot_that_stays (void)
{
  struct record_file *f = fresh_file (OWNER_DESTINATION);
  uint8_t *image = get_file (path);
  struct record rec;
  char *why;

  memset (image, 0, 100);
  put_file (path, image, RECORD_MAP_OFFSET);
  start_recording (~UINT64_C (0));
  CU_ASSERT_EQUAL (record_open (f, DISK_BYTES, &rec, &why), RECORD_OK);
  recording = false;
  CU_ASSERT_PTR_NOT_NULL (why);
  CU_ASSERT_EQUAL (rec.owner, OWNER_DESTINATION);
  free (why);
  CU_ASSERT_EQUAL (record_open (f, DISK_BYTES, &rec, &why), RECORD_OK);
  CU_ASSERT_PTR_NULL (why);
  free (image);
  image = get_file (path);
  CU_ASSERT_EQUAL (memcmp (image, "nbdmigrate state", 16), 0);
  free (image);
  record_free (f);
}

static void
expect_unreadable (const char *export_name, uint64_t disk_bytes,
                   const char *part)
{
  struct record rec;
  char *why;

  CU_ASSERT_EQUAL (look (export_name, disk_bytes, false, &rec, &why),
                   RECORD_UNREADABLE);
  CU_ASSERT_PTR_NOT_NULL_FATAL (why);
  CU_ASSERT_PTR_NOT_NULL (strstr (why, part));
  free (why);
  CU_ASSERT_EQUAL (look (export_name, disk_bytes, true, &rec, &why),
                   RECORD_UNREADABLE);
  free (why);
}

static void
test_unreadable (void)
{
  struct record_file *f = fresh_file (OWNER_SOURCE);
  struct record rec = make_record (OWNER_DESTINATION);
  uint8_t *image = get_file (path), *other;
  char name[sizeof path + 8];
  char *why;

  expect_unreadable ("", DISK_BYTES * 2, "2097152");
  put_file (path, "", 0);
  expect_unreadable ("", DISK_BYTES, "0 bytes");
  put_file (path, image, RECORD_MAP_OFFSET - 1);
  expect_unreadable ("", DISK_BYTES, "131071 bytes");

  other = calloc (1, RECORD_MAP_OFFSET);
  put_file (path, other, RECORD_MAP_OFFSET);
  expect_unreadable ("", DISK_BYTES, "no readable owner record");

  /* The two slots of different lives: more than one generation apart. */
  memcpy (other, image, RECORD_MAP_OFFSET);
  put_file (path, image, RECORD_MAP_OFFSET);
  CU_ASSERT_EQUAL (record_open (f, 0, &rec, &why), RECORD_OK);
  rec = make_record (OWNER_DESTINATION);
  for (unsigned i = 0; i < 2; ++i)
    CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  free (image);
  image = get_file (path);
  memcpy (other, image, RECORD_SLOT_BYTES);
  put_file (path, other, RECORD_MAP_OFFSET);
  expect_unreadable ("", DISK_BYTES, "contradict");

  /* A file of another export. */
  sprintf (name, "%s.x", path);
  put_file (name, image, RECORD_MAP_OFFSET);
  expect_unreadable ("x", DISK_BYTES, "another export");
  unlink (name);

  /* No file at all, but something else of that name. */
  unlink (path);
  CU_ASSERT_EQUAL (mkdir (path, 0700), 0);
  expect_unreadable ("", DISK_BYTES, "state");
  rmdir (path);
  CU_ASSERT_EQUAL (symlink ("/dev/null", path), 0);
  expect_unreadable ("", DISK_BYTES, "state");
  unlink (path);
  record_free (f);
  free (image);
  free (other);
}

/* A lack of descriptors settles nothing. */
static void
test_lack (void)
{
  struct record_file *f = fresh_file (OWNER_DESTINATION);
  struct rlimit limit, none;
  struct record rec;
  char *why;

  record_free (f);
  assert (getrlimit (RLIMIT_NOFILE, &limit) == 0);
  none = (struct rlimit){ .rlim_cur = 0, .rlim_max = limit.rlim_max };
  for (int mend = 0; mend < 2; mend++) {
    assert (setrlimit (RLIMIT_NOFILE, &none) == 0);
    CU_ASSERT_EQUAL (look ("", DISK_BYTES, mend, &rec, &why), RECORD_LACKING);
    assert (setrlimit (RLIMIT_NOFILE, &limit) == 0);
    CU_ASSERT_PTR_NOT_NULL (why);
    free (why);
    CU_ASSERT_EQUAL (owner_in_file (mend), OWNER_DESTINATION);
  }
}

/* 'reopen' settles an unreadable file by writing a new one. */
static void
test_settle (void)
{
  struct record_file *f = record_new (dir, "", true);
  struct record rec;
  char *why;

  put_file (path, "rubbish", 7);
  CU_ASSERT_EQUAL (record_open (f, DISK_BYTES, &rec, &why), RECORD_UNREADABLE);
  free (why);
  rec = make_record (OWNER_DESTINATION);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  CU_ASSERT (record_fd (f) >= 0);
  CU_ASSERT_EQUAL (owner_in_file (false), OWNER_DESTINATION);
  rec = make_record (OWNER_SOURCE);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  CU_ASSERT_EQUAL (owner_in_file (true), OWNER_SOURCE);
  record_free (f);
}

/* Making the file fails: there is none, or it is unsure until the directory
 * could be synced.
 */
static void
test_create_failures (void)
{
  struct record_file *f = record_new (dir, "", true);
  struct record rec;
  enum record_outcome outcome;
  char *why;

  unlink (path);
  CU_ASSERT_EQUAL (record_open (f, DISK_BYTES, &rec, &why), RECORD_NONE);
  rec = make_record (OWNER_SOURCE);
  /* Two writes, the sync of the file, that of the directory. */
  for (unsigned n = 0; n < 3; ++n) {
    start_recording (UINT64_C (1) << n);
    outcome = record_write (f, &rec, &why);
    recording = false;
    CU_ASSERT_EQUAL (outcome, RECORD_KEPT);
    CU_ASSERT_PTR_NOT_NULL (why);
    free (why);
    CU_ASSERT_EQUAL (access (path, F_OK), -1);
  }
  start_recording (8);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_UNSURE);
  free (why);
  start_recording (1);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_UNSURE);
  free (why);
  start_recording (0);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  recording = false;
  CU_ASSERT_EQUAL (owner_in_file (true), OWNER_SOURCE);
  record_free (f);
}

static void
test_without_sync (void)
{
  struct record_file *f = record_new (dir, "nosync", false);
  struct record rec = make_record (OWNER_SOURCE);
  char *why, name[sizeof path + 8];

  CU_ASSERT_EQUAL (record_open (f, DISK_BYTES, &rec, &why), RECORD_NONE);
  rec = make_record (OWNER_SOURCE);
  start_recording (~UINT64_C (0));
  fail_syncs_only = true;
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  CU_ASSERT_EQUAL (record_write (f, &rec, &why), RECORD_WRITTEN);
  recording = false;
  fail_syncs_only = false;
  CU_ASSERT_EQUAL (look ("nosync", 0, true, &rec, &why), RECORD_OK);
  record_free (f);
  sprintf (name, "%s.nosync", path);
  unlink (name);
}

int
main (void)
{
  CU_TestInfo tests[] = {
    { "file names", test_names },
    { "round trip", test_round_trip },
    { "a crash in a write", test_crash_in_write },
    { "failing writes and syncs", test_failures },
    { "a crash while mending", test_crash_in_mending },
    { "rot that cannot be mended", test_rot_that_stays },
    { "unreadable files", test_unreadable },
    { "a lack of descriptors", test_lack },
    { "an unreadable file is settled", test_settle },
    { "making the file fails", test_create_failures },
    { "without sync", test_without_sync },
    CU_TEST_INFO_NULL,
  };
  int r;

  if (mkdtemp (dir) == NULL)
    return EXIT_FAILURE;
  snprintf (path, sizeof path, "%s/state", dir);
  r = unit_main ("record", tests);
  unlink (path);
  rmdir (dir);
  return r;
}
