/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of the control protocol, on a disk: lines in any order, with any
 * arguments.  A line that begins with '{' is what the client sends.  Of any
 * other the first byte is a command's number, and the rest are bytes of its
 * arguments, so that most of what is tried gets beyond the parser.
 *
 * Each line has one answer; only the session does what is the session's (R16);
 * and the source stays the owner unless "commit" or "reopen" has said
 * otherwise.  When the client has gone the gate is open and nothing is leased.
 *
 * There is no nbdkit and no network: the plugin has nothing but a size, and
 * nothing that is dialled answers.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include <nbdkit-filter.h>

#include "base/config.h"
#include "cleanup.h"
#include "control/commands.h"
#include "control/control.h"
#include "control/session.h"
#include "export/export.h"
#include "fuzz.h"
#include "protocol.h"

#define DISK_BYTES (UINT64_C (1) << 20)
#define LINES_MAX 64

/* ---- what is not there --------------------------------------------------- */

int
connect (int fd, const struct sockaddr *address, socklen_t bytes)
{
  (void)fd;
  (void)address;
  (void)bytes;
  errno = ECONNREFUSED;
  return -1;
}

int
getaddrinfo (const char *node, const char *service,
             const struct addrinfo *hints, struct addrinfo **result)
{
  (void)node;
  (void)service;
  (void)hints;
  (void)result;
  return EAI_FAIL;
}

void
nbdkit_error (const char *fmt, ...)
{
  (void)fmt;
}

void
nbdkit_debug (const char *fmt, ...)
{
  (void)fmt;
}

void
nbdkit_vdebug (const char *fmt, va_list args)
{
  (void)fmt;
  (void)args;
}

char *
nbdkit_absolute_path (const char *path)
{
  return strdup (path);
}

int
nbdkit_nanosleep (unsigned s, unsigned ns)
{
  const struct timespec ts = { s, ns };

  return nanosleep (&ts, NULL);
}

int
nbdkit_parse_bool (const char *text)
{
  return *text == 't';
}

/* Nor is there a context, which "extents" would ask. */
nbdkit_next *
nbdkit_next_context_open (nbdkit_backend *backend, int readonly,
                          const char *name, int shared)
{
  (void)backend;
  (void)readonly;
  (void)name;
  (void)shared;
  return NULL;
}

void
nbdkit_next_context_close (nbdkit_next *context)
{
  (void)context;
}

struct nbdkit_extents *
nbdkit_extents_new (uint64_t start, uint64_t end)
{
  (void)start;
  (void)end;
  return NULL;
}

void
nbdkit_extents_free (struct nbdkit_extents *extents)
{
  (void)extents;
}

size_t
nbdkit_extents_count (const struct nbdkit_extents *extents)
{
  (void)extents;
  return 0;
}

struct nbdkit_extent
nbdkit_get_extent (const struct nbdkit_extents *extents, size_t i)
{
  (void)extents;
  (void)i;
  abort ();
}

/* control.c; the linker sends calls here.  The client's process, which may be
 * dying, would be waited for.
 */
extern int __wrap_client_process (const struct client *c);
int
__wrap_client_process (const struct client *c)
{
  (void)c;
  return -1;
}

/* local.c, likewise. */
extern int __wrap_local_look (struct export *e, nbdkit_backend *backend,
                              int readonly);
int
__wrap_local_look (struct export *e, nbdkit_backend *backend, int readonly)
{
  (void)backend;
  (void)readonly;
  e->disk_bytes = DISK_BYTES;
  e->chunk_bytes = 4096;
  return 0;
}

/* ---- what the client sends ----------------------------------------------- */

static const char *const names[] = {
  "attach",         "status",    "wish",    "abort",     "begin",    "lost",
  "source-sockets", "take",      "extents", "distrust",  "done",     "failed",
  "flush-begin",    "flush-end", "compare", "compared",  "throttle", "mirror",
  "hold",           "release",   "prepare", "read-back", "probe",    "commit",
  "rollback",       "publish",   "end",     "reopen",
};
static const char *const ends[] = { "pivot", "handover", "detach", "other" };
static const char *const uris[] = { "nbd://a", "nbd+unix:///?socket=x",
                                    "nbds://b", "local:" };

/* Bytes of arguments, used in turn. */
struct bytes {
  const uint8_t *data;
  size_t size;
};

static unsigned
next (struct bytes *b)
{
  if (b->size == 0)
    return 0;
  b->size--;
  return *b->data++;
}

/* Around what matters: chunks, the disk's end, the largest numbers. */
static json_int_t
number (struct bytes *b)
{
  const unsigned n = next (b);

  switch (n & 3) {
  case 0:
    return (json_int_t)(n >> 2) * 4096;
  case 1:
    return (json_int_t)DISK_BYTES - 32 + (n >> 2);
  case 2:
    return n >> 2;
  default:
    return INT64_MAX - (n >> 2) * (INT64_C (1) << 56);
  }
}

static json_t *
ranges (struct bytes *b)
{
  json_t *array = json_array ();

  for (unsigned n = next (b) & 3; n > 0; n--) {
    const json_int_t offset = number (b);

    json_array_append_new (array, json_pack ("[I, I]", offset, number (b)));
  }
  return array;
}

/* Everything that any command asks for; what is not asked for is not looked at.
 * The token of a hold and the epoch are the right ones now and then.
 */
static char *
make_line (struct bytes *b, const char *token, uint64_t epoch)
{
  const char *name = names[next (b) % (sizeof names / sizeof *names)];
  const unsigned flags = next (b);
  CLEANUP_JSON json_t *line = json_pack (
    "{s:s, s:{s:s, s:s, s:s, s:o, s:I, s:b, s:b, s:b, s:b}}", "execute", name,
    "arguments", "token", flags & 1 ? "0" : token, "destination",
    uris[flags >> 1 & 3], "finish", ends[flags >> 3 & 3], "extents", ranges (b),
    "epoch", flags & 128 ? (json_int_t)number (b) : (json_int_t)epoch,
    "success", (int)(flags >> 5 & 1), "put_back", (int)(flags >> 6 & 1),
    "together", 1, "enabled", 1);
  static const char *const numbers[] = {
    "cursor",      "max_bytes",        "offset",      "length",     "question",
    "deadline_ms", "bytes_per_second", "block_bytes", "connection",
  };
  json_t *args = json_object_get (line, "arguments");

  for (size_t i = 0; i < sizeof numbers / sizeof *numbers && b->size > 0; i++)
    if (next (b) & 1)
      json_object_set_new (args, numbers[i], json_integer (number (b)));
  /* Else they are waited for. */
  json_object_set_new (args, "timeout_ms", json_integer (0));
  json_object_set_new (args, "max_ms", json_integer (1 + (flags & 1)));
  return json_dumps (line, JSON_COMPACT);
}

/* ---- one conversation ---------------------------------------------------- */

struct talk {
  struct client client;
  int peer;
  bool moved; /* somebody has asked for another owner, and got it */
  char token[64];
  uint64_t epoch;
};

/* "begin" and "lost" need sockets.  Those that nobody has the other end of are
 * not waited for.
 */
static void
add_descriptor (struct talk *t)
{
  struct line_reader *r = &t->client.reader;
  int pair[2];

  if (r->nr_fds >= 4)
    return;
  assert (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
  close (pair[0]);
  r->fds[r->nr_fds++] = pair[1];
}

/* R16: what only the session may do. */
static bool
is_for_session (const char *line)
{
  static const char *const free[] = { "attach", "status", "wish",
                                      "abort",  "reopen", "begin" };
  CLEANUP_JSON json_t *message = json_loads (line, 0, NULL);
  const char *name = json_string_value (json_object_get (message, "execute"));

  for (size_t i = 0; name != NULL && i < sizeof free / sizeof *free; i++)
    if (strcmp (name, free[i]) == 0)
      return false;
  return true;
}

static bool
is_session (const struct talk *t)
{
  const struct export *e = t->client.export;

  return e != NULL && e->session.client == &t->client;
}

static void
note_answer (struct talk *t, const char *line, const json_t *answer)
{
  const json_t *value = json_object_get (answer, "return");
  const json_t *error = json_object_get (answer, "error");
  const char *token = json_string_value (json_object_get (value, "token"));

  assert (json_is_object (value) != json_is_object (error));
  assert (error == NULL || (json_is_string (json_object_get (error, "class")) &&
                            json_is_string (json_object_get (error, "desc"))));
  if (token != NULL)
    snprintf (t->token, sizeof t->token, "%s", token);
  protocol_get_u64 (value, "epoch", &t->epoch);
  t->moved |=
    value != NULL && (strstr (line, "commit") || strstr (line, "\\u") ||
                      strstr (line, "reopen"));
}

static bool
send_line (struct talk *t, const char *line)
{
  const bool session = is_session (t);
  bool go_on = true;
  CLEANUP_JSON json_t *answer = NULL;

  if (strstr (line, "begin") != NULL || strstr (line, "lost") != NULL)
    add_descriptor (t);
  answer = command_execute (&t->client, line, &go_on);
  assert (answer != NULL || !go_on);
  if (answer != NULL)
    note_answer (t, line, answer);
  if (json_object_get (answer, "return") != NULL)
    assert (session || !is_for_session (line));
  if (t->client.export != NULL && !t->moved)
    assert (tracker_owner (t->client.export->tracker) == OWNER_SOURCE);
  return go_on;
}

/* Lines of bytes end with 0xff. */
static bool
say_one (struct talk *t, const uint8_t **data, const uint8_t *end)
{
  const bool raw = **data == '{';
  const uint8_t *stop = memchr (*data, raw ? '\n' : 0xff, end - *data);
  CLEANUP_FREE char *line = NULL;

  if (stop == NULL)
    stop = end;
  if (raw)
    line = fuzz_text (*data, stop - *data);
  else {
    struct bytes b = { *data, stop - *data };

    line = make_line (&b, t->token, t->epoch);
  }
  *data = stop + (stop != end);
  return line == NULL || send_line (t, line);
}

static void
end_talk (struct talk *t)
{
  struct export *e = t->client.export;
  struct tracker_status s;

  if (e != NULL)
    session_leave (e, &t->client);
  line_reader_destroy (&t->client.reader);
  if (e != NULL) {
    tracker_get_status (e->tracker, &s);
    assert (s.leased_bytes == 0);
    assert (s.dirty_bytes <= DISK_BYTES && s.quarantined_bytes <= DISK_BYTES);
    assert (t->moved || s.gate == GATE_OPEN);
  }
  close (t->client.fd);
  close (t->peer);
}

static void
forget_disk (void)
{
  DIR *dir;
  const struct dirent *entry;

  exports_end ();
  exports_free ();
  assert (mkdir ("d", 0700) == 0 || errno == EEXIST);
  dir = opendir ("d");
  assert (dir != NULL);
  while ((entry = readdir (dir)) != NULL)
    if (entry->d_name[0] != '.')
      assert (unlinkat (dirfd (dir), entry->d_name, 0) == 0);
  closedir (dir);
}

/* Once: threads of the disk before this one still read it. */
static void
configure (void)
{
  if (config.dir != NULL)
    return;
  config.dir = "d";
  config.control = "d/control";
  config.state_sync = false;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  struct talk t = { .client = { .fd = -1 }, .token = "0" };
  const uint8_t *const end = data + size;
  int socks[2];

  configure ();
  forget_disk ();
  assert (export_open ((nbdkit_backend *)&t, 0, "") != NULL);
  assert (socketpair (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) == 0);
  line_reader_init (&t.client.reader);
  t.client.fd = socks[0];
  t.peer = socks[1];
  for (int n = 0; data < end && n < LINES_MAX && say_one (&t, &data, end); n++)
    ;
  end_talk (&t);
  return 0;
}
