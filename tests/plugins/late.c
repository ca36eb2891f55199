/* SPDX-License-Identifier: BSD-3-Clause */
/* A destination that is slow, hangs, forgets or applies things late, on cue.
 *
 *   nbdkit nbdkit-late-plugin.so file=PATH cue=DIR [multi-conn=0] [volatile=1]
 *          [minimum=N] [maximum=N] [zero=0] [trim=0] [fua=0]
 *
 * volatile=1: what is written is lost on kill -9 unless it was flushed (large
 * zeroes excepted).
 *
 * DIR/rules, read again whenever it was replaced (rename it into place), says
 * what becomes of requests; the first line that fits counts:
 *
 *   KIND[,KIND...] ACTION [KEY=VALUE...]
 *
 *   KIND    read write zero trim flush
 *   late    after ms=N milliseconds
 *   hold    when the file DIR/NAME is there, until=NAME; or ms=N milliseconds
 *           after the next client has come, until=reopened
 *   hang    never
 *   queue   never; kept in DIR/queue, and applied by the next server on this
 *           DIR when DIR/apply is there, or DIR/apply-reopened and its first
 *           client has come 300 ms ago
 *   fail    at once, with EIO, or errno=ENOSPC; with drops=1 and volatile=1
 *           what was not flushed is lost, and the server goes on
 *
 *   count=N   so many times; at=OFFSET  only what covers this byte;
 *   least=N   only N bytes or more; but=TEXT  not what begins with this byte;
 *   lands=first  done at once, answered late; otherwise done just before the
 *           answer, whether or not the connection is still there
 *
 * DIR/log tells of each request that a rule fits, as it happens: "NUMBER KIND
 * OFFSET LENGTH EVENT", with the events came, landed, answered, gave-up (the
 * server was told to stop), queued, applied.  So a test waits for what happens
 * instead of sleeping.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define MEBIBYTE (1024 * 1024)
#define PAGE 4096
#define RULES_MAX 16

enum kind { READ, WRITE, ZERO, TRIM, FLUSH, NR_KINDS };
static const char *const kind_names[] = { "read", "write", "zero", "trim",
                                          "flush" };

enum action { LATE, HOLD, HANG, QUEUE, FAIL, NR_ACTIONS };
static const char *const action_names[] = { "late", "hold", "hang", "queue",
                                            "fail" };

struct request {
  enum kind kind;
  uint8_t *buf; /* of a read or write */
  uint32_t length, flags;
  uint64_t offset;
};

struct rule {
  unsigned kinds; /* a bit for each */
  enum action action;
  unsigned ms, count;
  int64_t at, least; /* at: -1, anywhere */
  int but;           /* -1: whatever it begins with */
  bool lands_first, drops;
  int error; /* of those that fail */
  char until[64];
};

/* How a request is kept in DIR/queue; the bytes of a write follow. */
struct queued {
  uint32_t kind, length, flags;
  uint64_t offset;
};

static char *file, *cue;
static int multi_conn = 1, is_volatile, minimum = 1;
static int maximum = 32 * MEBIBYTE, zero = 1, trim = 1, fua = 1;

static const struct {
  const char *key;
  int *value;
} numbers[] = {
  { "multi-conn", &multi_conn },
  { "volatile", &is_volatile },
  { "minimum", &minimum },
  { "maximum", &maximum },
  { "zero", &zero },
  { "trim", &trim },
  { "fua", &fua },
};

static int fd = -1, log_fd = -1, queue_fd = -1;
static uint64_t size;
static pthread_t quit_thread, apply_thread;
static bool has_apply_thread;
static _Atomic bool quitting; /* set once, by quit_thread */

/* Guards the image, what is pending, and the rules. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *image; /* what clients see; a mapping of the file */
static struct range {
  uint64_t offset, length;
} * pending; /* not in the file yet; only if volatile */
static size_t nr_pending, allocated;
static struct rule rules[RULES_MAX];
static size_t nr_rules;
static struct stat rules_seen;
static unsigned last_number;

/* How many clients have come, and when the last one did. */
static _Atomic unsigned opens;
static _Atomic int64_t opened_ms;

/* ---- The disk.  Called with the lock ------------------------------------ */

static int
to_file (const struct range *r)
{
  for (uint64_t n = 0; n < r->length;) {
    const ssize_t w =
      pwrite (fd, image + r->offset + n, r->length - n, r->offset + n);

    if (w <= 0) {
      nbdkit_error ("writing %s: %m", file);
      return -1;
    }
    n += w;
  }
  return 0;
}

/* The image has new bytes: into the file now, or when flushed. */
static int
changed (uint64_t offset, uint64_t length, uint32_t flags)
{
  const struct range r = { offset, length };

  if (!is_volatile || length == 0)
    return 0; /* the mapping is shared */
  if (flags & NBDKIT_FLAG_FUA)
    return to_file (&r);
  if (nr_pending == allocated) {
    const size_t n = allocated ? 2 * allocated : 1024;
    struct range *p = realloc (pending, n * sizeof *p);

    if (p == NULL) {
      nbdkit_error ("realloc: %m");
      return -1;
    }
    pending = p;
    allocated = n;
  }
  pending[nr_pending++] = r;
  return 0;
}

static int
clear_bytes (uint64_t offset, uint64_t length, uint32_t flags)
{
  memset (image + offset, 0, length);
  return changed (offset, length, flags);
}

/* Whole pages of a long request cost no memory: they become a hole. */
static int
do_zero (uint64_t offset, uint64_t length, uint32_t flags)
{
  const uint64_t begin = (offset + PAGE - 1) / PAGE * PAGE;
  const uint64_t end = (offset + length) / PAGE * PAGE;

  if (length < MEBIBYTE)
    return clear_bytes (offset, length, flags);
  if (fallocate (fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, begin,
                 end - begin) == -1 ||
      (is_volatile && madvise (image + begin, end - begin, MADV_DONTNEED))) {
    nbdkit_error ("zeroing %s: %m", file);
    return -1;
  }
  if (clear_bytes (offset, begin - offset, flags) == -1)
    return -1;
  return clear_bytes (end, offset + length - end, flags);
}

static int
do_flush (void)
{
  for (size_t i = 0; i < nr_pending; ++i) {
    if (to_file (&pending[i]) == -1)
      return -1;
  }
  nr_pending = 0;
  return 0;
}

/* Clients see what is in the file again. */
static void
drop_pending (void)
{
  pthread_mutex_lock (&lock);
  for (size_t i = 0; i < nr_pending; ++i) {
    const struct range *r = &pending[i];

    if (pread (fd, image + r->offset, r->length, r->offset) !=
        (ssize_t)r->length)
      abort ();
  }
  nr_pending = 0;
  pthread_mutex_unlock (&lock);
}

static int
do_request (const struct request *r)
{
  switch (r->kind) {
  case READ:
    memcpy (r->buf, image + r->offset, r->length);
    return 0;
  case WRITE:
    memcpy (image + r->offset, r->buf, r->length);
    return changed (r->offset, r->length, r->flags);
  case ZERO:
  case TRIM:
    return do_zero (r->offset, r->length, r->flags);
  default:
    return do_flush ();
  }
}

static int
land (const struct request *r)
{
  int result;

  pthread_mutex_lock (&lock);
  result = do_request (r);
  pthread_mutex_unlock (&lock);
  return result;
}

/* ---- Rules.  Called with the lock --------------------------------------- */

static int
find_name (const char *const *names, int n, const char *name)
{
  for (int i = 0; i < n; ++i) {
    if (strcmp (names[i], name) == 0)
      return i;
  }
  nbdkit_error ("%s/rules: what is \"%s\"?", cue, name);
  return -1;
}

static int
parse_key (struct rule *r, char *word)
{
  char *const value = strchr (word, '=');

  if (value == NULL)
    return find_name (NULL, 0, word);
  *value = '\0';
  if (strcmp (word, "ms") == 0)
    return nbdkit_parse_unsigned (word, value + 1, &r->ms);
  if (strcmp (word, "count") == 0)
    return nbdkit_parse_unsigned (word, value + 1, &r->count);
  if (strcmp (word, "at") == 0)
    return (r->at = nbdkit_parse_size (value + 1)) == -1 ? -1 : 0;
  if (strcmp (word, "least") == 0)
    return (r->least = nbdkit_parse_size (value + 1)) == -1 ? -1 : 0;
  if (strcmp (word, "but") == 0) {
    r->but = (uint8_t)value[1];
    return 0;
  }
  if (strcmp (word, "errno") == 0) {
    r->error = strcmp (value + 1, "ENOSPC") == 0 ? ENOSPC : EIO;
    return 0;
  }
  if (strcmp (word, "lands") == 0) {
    r->lands_first = strcmp (value + 1, "first") == 0;
    return 0;
  }
  if (strcmp (word, "drops") == 0) {
    r->drops = strcmp (value + 1, "1") == 0;
    return 0;
  }
  if (strcmp (word, "until") == 0) {
    snprintf (r->until, sizeof r->until, "%s", value + 1);
    return 0;
  }
  return find_name (NULL, 0, word);
}

static int
parse_rule (struct rule *r, char *line)
{
  char *save, *more, *word = strtok_r (line, " \n", &save);
  int n;

  *r = (struct rule){ .count = -1, .at = -1, .but = -1, .error = EIO };
  for (char *k = strtok_r (word, ",", &more); k != NULL;
       k = strtok_r (NULL, ",", &more)) {
    if ((n = find_name (kind_names, NR_KINDS, k)) == -1)
      return -1;
    r->kinds |= 1u << n;
  }
  word = strtok_r (NULL, " \n", &save);
  n = find_name (action_names, NR_ACTIONS, word ? word : "");
  if (n == -1)
    return -1;
  r->action = n;
  while ((word = strtok_r (NULL, " \n", &save)) != NULL) {
    if (parse_key (r, word) == -1)
      return -1;
  }
  return 0;
}

static void
parse_rules (FILE *f)
{
  char line[512];

  nr_rules = 0;
  while (nr_rules < RULES_MAX && fgets (line, sizeof line, f) != NULL) {
    if (line[0] != '\n' && parse_rule (&rules[nr_rules], line) == 0)
      nr_rules++;
  }
}

static void
look_for_rules (void)
{
  char name[4096];
  struct stat st;
  FILE *f;

  snprintf (name, sizeof name, "%s/rules", cue);
  if (stat (name, &st) == -1) {
    nr_rules = 0;
    rules_seen = (struct stat){ 0 };
    return;
  }
  if (st.st_ino == rules_seen.st_ino &&
      st.st_mtim.tv_sec == rules_seen.st_mtim.tv_sec &&
      st.st_mtim.tv_nsec == rules_seen.st_mtim.tv_nsec)
    return;
  rules_seen = st;
  f = fopen (name, "re");
  if (f != NULL) {
    parse_rules (f);
    fclose (f);
  }
}

static bool
fits (const struct rule *u, const struct request *r)
{
  return u->kinds & (1u << r->kind) && u->count > 0 &&
         r->length >= (uint64_t)u->least &&
         (u->at == -1 || ((uint64_t)u->at >= r->offset &&
                          (uint64_t)u->at - r->offset < r->length)) &&
         !(u->but != -1 && r->kind == WRITE && *r->buf == u->but);
}

/* The rule for a request is copied; returns its number, 0: there is none. */
static unsigned
find_rule (const struct request *r, struct rule *copy)
{
  unsigned number = 0;

  pthread_mutex_lock (&lock);
  look_for_rules ();
  for (size_t i = 0; i < nr_rules && number == 0; ++i) {
    if (fits (&rules[i], r)) {
      rules[i].count--;
      *copy = rules[i];
      number = ++last_number;
    }
  }
  pthread_mutex_unlock (&lock);
  return number;
}

/* ---- What rules do ------------------------------------------------------ */

static void
tell (unsigned number, const struct request *r, const char *event)
{
  dprintf (log_fd, "%u %s %llu %u %s\n", number, kind_names[r->kind],
           (unsigned long long)r->offset, r->length, event);
}

static bool
is_there (const char *name)
{
  char path[4096];

  snprintf (path, sizeof path, "%s/%s", cue, name);
  return access (path, F_OK) == 0;
}

static void
nap (void)
{
  const struct timespec five_ms = { 0, 5000000 };

  /* Not nbdkit_nanosleep: that would end with the connection. */
  nanosleep (&five_ms, NULL);
}

static int64_t
now_ms (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C (1000) + t.tv_nsec / 1000000;
}

/* 'n': how many clients there were. */
static bool
is_reopened (unsigned n, unsigned ms)
{
  return opens > n && now_ms () >= opened_ms + ms;
}

/* False: the server is to stop. */
static bool
wait_as_told (const struct rule *u)
{
  const int64_t end_ms = now_ms () + u->ms;
  const unsigned clients = opens;
  const bool by_client = strcmp (u->until, "reopened") == 0;

  for (;;) {
    if (quitting)
      return false;
    if (u->action == LATE && now_ms () >= end_ms)
      return true;
    if (u->action == HOLD &&
        (by_client ? is_reopened (clients, u->ms) : is_there (u->until)))
      return true;
    nap ();
  }
}

static int
keep_for_later (const struct request *r)
{
  const struct queued q = { r->kind, r->length, r->flags, r->offset };
  const uint32_t bytes = r->kind == WRITE ? r->length : 0;
  int result = 0;

  pthread_mutex_lock (&lock);
  if (write (queue_fd, &q, sizeof q) != sizeof q ||
      (bytes > 0 && write (queue_fd, r->buf, bytes) != (ssize_t)bytes)) {
    nbdkit_error ("%s/queue: %m", cue);
    result = -1;
  }
  pthread_mutex_unlock (&lock);
  return result;
}

static int
give_up (unsigned number, const struct request *r)
{
  tell (number, r, "gave-up");
  nbdkit_set_error (ESHUTDOWN);
  return -1;
}

static int
serve_late (unsigned number, const struct rule *u, const struct request *r)
{
  int result = 0;

  if (u->lands_first) {
    result = land (r);
    tell (number, r, "landed");
  }
  if (!wait_as_told (u))
    return give_up (number, r);
  if (!u->lands_first) {
    result = land (r);
    tell (number, r, "landed");
  }
  tell (number, r, "answered");
  return result;
}

static int
serve (struct request r)
{
  struct rule rule;
  const unsigned number = find_rule (&r, &rule);

  if (number == 0)
    return land (&r);
  if (rule.action == QUEUE && keep_for_later (&r) == -1)
    return -1;
  tell (number, &r, rule.action == QUEUE ? "queued" : "came");
  if (rule.action == FAIL) {
    if (rule.drops)
      drop_pending ();
    nbdkit_set_error (rule.error);
    return -1;
  }
  return serve_late (number, &rule, &r);
}

/* ---- Threads ------------------------------------------------------------ */

/* On a thread without a connection this sleep ends only with the server. */
static void *
wait_for_quit (void *unused)
{
  (void)unused;
  while (nbdkit_nanosleep (3600, 0) == 0)
    ;
  quitting = true;
  return NULL;
}

static void
apply_all (int from)
{
  struct queued q;

  while (read (from, &q, sizeof q) == sizeof q) {
    struct request r = { q.kind, NULL, q.length, q.flags, q.offset };

    if (r.kind == WRITE) {
      r.buf = malloc (r.length);
      if (r.buf == NULL)
        abort ();
      if (read (from, r.buf, r.length) != (ssize_t)r.length) {
        free (r.buf);
        return; /* the server before was killed while it queued this one */
      }
    }
    land (&r);
    tell (0, &r, "applied");
    free (r.buf);
  }
}

/* What the server before this one has queued. */
static void *
apply_when_told (void *opaque)
{
  const int from = (intptr_t)opaque;

  while (!quitting && !is_there ("apply") &&
         !(is_there ("apply-reopened") && is_reopened (0, 300)))
    nap ();
  if (!quitting)
    apply_all (from);
  close (from);
  return NULL;
}

/* ---- The plugin --------------------------------------------------------- */

static int
late_config (const char *key, const char *value)
{
  char **const path = strcmp (key, "file") == 0  ? &file
                      : strcmp (key, "cue") == 0 ? &cue
                                                 : NULL;

  if (path != NULL) {
    free (*path);
    *path = nbdkit_absolute_path (value);
    return *path == NULL ? -1 : 0;
  }
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; ++i) {
    if (strcmp (key, numbers[i].key) == 0)
      return nbdkit_parse_int (key, value, numbers[i].value);
  }
  nbdkit_error ("unknown parameter %s", key);
  return -1;
}

static int
open_in_cue (const char *name, int flags)
{
  char path[4096];
  int f;

  snprintf (path, sizeof path, "%s/%s", cue, name);
  f = open (path, flags | O_CREAT | O_CLOEXEC, 0600);
  if (f == -1)
    nbdkit_error ("%s: %m", path);
  return f;
}

static int
late_get_ready (void)
{
  struct stat st;

  if (file == NULL || cue == NULL) {
    nbdkit_error ("file= and cue= are needed");
    return -1;
  }
  fd = open (file, O_RDWR | O_CLOEXEC);
  if (fd == -1 || fstat (fd, &st) == -1) {
    nbdkit_error ("%s: %m", file);
    return -1;
  }
  size = st.st_size;
  image =
    mmap (NULL, size + 1, PROT_READ | PROT_WRITE,
          (is_volatile ? MAP_PRIVATE : MAP_SHARED) | MAP_NORESERVE, fd, 0);
  if (image == MAP_FAILED) {
    nbdkit_error ("mapping %s: %m", file);
    return -1;
  }
  log_fd = open_in_cue ("log", O_WRONLY | O_APPEND);
  return log_fd == -1 ? -1 : 0;
}

static int
late_after_fork (void)
{
  const int from = open_in_cue ("queue", O_RDONLY);

  if (from == -1 || pthread_create (&quit_thread, NULL, wait_for_quit, NULL))
    return -1;
  /* Read from its beginning while new ones come to its end: not mixed up,
   * because the old file loses its name.
   */
  if (lseek (from, 0, SEEK_END) > 0) {
    char path[4096];

    lseek (from, 0, SEEK_SET);
    snprintf (path, sizeof path, "%s/queue", cue);
    if (unlink (path) == -1 ||
        pthread_create (&apply_thread, NULL, apply_when_told,
                        (void *)(intptr_t)from))
      return -1;
    has_apply_thread = true;
  }
  else
    close (from);
  queue_fd = open_in_cue ("queue", O_WRONLY | O_APPEND);
  return queue_fd == -1 ? -1 : 0;
}

static void
late_cleanup (void)
{
  pthread_join (quit_thread, NULL);
  if (has_apply_thread)
    pthread_join (apply_thread, NULL);
}

static void
late_unload (void)
{
  if (fd >= 0)
    close (fd);
  if (log_fd >= 0)
    close (log_fd);
  if (queue_fd >= 0)
    close (queue_fd);
  free (pending);
  free (file);
  free (cue);
}

static void *
late_open (int readonly)
{
  (void)readonly;
  opened_ms = now_ms ();
  opens++;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
late_get_size (void *handle)
{
  (void)handle;
  return size;
}

static int
late_block_size (void *handle, uint32_t *min, uint32_t *preferred,
                 uint32_t *max)
{
  (void)handle;
  *min = minimum;
  *preferred = minimum > 4096 ? minimum : 4096;
  *max = maximum;
  return 0;
}

static int
yes (void *handle)
{
  (void)handle;
  return 1;
}

static int
late_can_multi_conn (void *handle)
{
  (void)handle;
  return multi_conn;
}

static int
late_can_zero (void *handle)
{
  (void)handle;
  return zero;
}

static int
late_can_trim (void *handle)
{
  (void)handle;
  return trim;
}

static int
late_can_fua (void *handle)
{
  (void)handle;
  return fua ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

static int
late_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  (void)handle;
  return serve ((struct request){ READ, buf, count, flags, offset });
}

static int
late_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void)handle;
  return serve ((struct request){ WRITE, (void *)buf, count, flags, offset });
}

static int
late_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void)handle;
  return serve ((struct request){ ZERO, NULL, count, flags, offset });
}

static int
late_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void)handle;
  return serve ((struct request){ TRIM, NULL, count, flags, offset });
}

static int
late_flush (void *handle, uint32_t flags)
{
  (void)handle;
  return serve ((struct request){ FLUSH, NULL, 0, flags, 0 });
}

static struct nbdkit_plugin plugin = {
  .name = "late",
  .version = "1.0.0",
  .config = late_config,
  .get_ready = late_get_ready,
  .after_fork = late_after_fork,
  .cleanup = late_cleanup,
  .unload = late_unload,
  .open = late_open,
  .get_size = late_get_size,
  .block_size = late_block_size,
  .can_multi_conn = late_can_multi_conn,
  .can_write = yes,
  .can_flush = yes,
  .can_fua = late_can_fua,
  .can_zero = late_can_zero,
  .can_fast_zero = late_can_zero,
  .can_trim = late_can_trim,
  .pread = late_pread,
  .pwrite = late_pwrite,
  .zero = late_zero,
  .trim = late_trim,
  .flush = late_flush,
};

NBDKIT_REGISTER_PLUGIN (plugin)
