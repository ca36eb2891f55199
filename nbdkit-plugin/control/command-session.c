/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands that begin, feed and end a session. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "call.h"
#include "base/clock.h"
#include "cleanup.h"
#include "export/audit.h"
#include "export/durable-map.h"
#include "export/mirroring.h"
#include "export/owner.h"
#include "export/place.h"
#include "nbd-limits.h"
#include "relay/relay.h"
#include "uri.h"
#include "session-sockets.h"
#include "session.h"

#define SLICE_MS 50 /* of a wait: how often the peer is looked at */
#define LOOK_MS 2000

/* Both are repeated by 'status', which has to fit into a line. */
#define DESTINATION_MAX 2048 /* bytes */
#define PROGRESS_MAX 65536   /* bytes, as JSON */

/* The descriptors that came with the command: the ledger is not among the
 * sockets.  False: something else is.
 */
static bool
sort_descriptors (struct session_sockets *sockets, const int *fds, size_t n)
{
  bool ok = true;

  for (size_t i = 0; i < n; i++) {
    struct stat st;

    if (sockets->ledger == NULL && ledger_is (fds[i])) {
      sockets->ledger = ledger_open (fds[i]);
      ok = ok && sockets->ledger != NULL;
      close (fds[i]);
      continue;
    }
    sockets->fds[sockets->nr_fds++] = fds[i];
    ok = ok && fstat (fds[i], &st) == 0 && S_ISSOCK (st.st_mode);
  }
  return ok && sockets->nr_fds > 0;
}

static void
drop_sockets (struct session_sockets *sockets)
{
  for (size_t i = 0; i < sockets->nr_fds; i++)
    close (sockets->fds[i]);
  for (size_t i = 0; i < sockets->nr_source_fds; i++)
    close (sockets->source_fds[i]);
  ledger_close (sockets->ledger);
}

/* The last of the sockets lead to the source.  False: there are not so many,
 * and one more to the destination.
 */
static bool
split_sockets (struct session_sockets *sockets, uint64_t nr_source)
{
  if (nr_source >= sockets->nr_fds)
    return nr_source == 0;
  sockets->nr_fds -= nr_source;
  sockets->nr_source_fds = nr_source;
  memcpy (sockets->source_fds, &sockets->fds[sockets->nr_fds],
          nr_source * sizeof *sockets->fds);
  return true;
}

/* The destination sockets that came with the command (R7), the ledger that is
 * kept of them, and so many sockets to the source.  -1 after call_fail.  The
 * last descriptor is something else, and the caller's, where there is a place
 * for it.
 */
static int
take_sockets (struct call *call, struct session_sockets *sockets,
              uint64_t nr_source, int *last)
{
  int fds[PROTOCOL_FDS_MAX];
  size_t n = line_reader_take_fds (&call->client->reader, fds);

  *sockets = (struct session_sockets){ .nr_fds = 0 };
  if (last != NULL)
    *last = n > 0 ? fds[--n] : -1;
  if (sort_descriptors (sockets, fds, n) && split_sockets (sockets, nr_source))
    return 0;
  drop_sockets (sockets);
  call_fail (call, "BadArgument",
             "the sockets of the connections to the destination must come "
             "with this command (SCM_RIGHTS), and nothing else but a ledger of "
             "them, as many sockets to the source as \"source_sockets\" says, "
             "and the shared memory last if \"shared_memory\" is true");
  return -1;
}

/* 1 or 0; -1 with errno: that cannot be told. */
static int
same_peer (int a, int b)
{
  struct sockaddr_storage pa, pb;
  socklen_t la = sizeof pa, lb = sizeof pb;

  memset (&pa, 0, sizeof pa);
  memset (&pb, 0, sizeof pb);
  if (getpeername (a, (struct sockaddr *)&pa, &la) == -1)
    return errno == ENOTCONN ? 0 : -1; /* lost just now */
  if (getpeername (b, (struct sockaddr *)&pb, &lb) == -1)
    return -1;
  return la == lb && la <= sizeof pa && memcmp (&pa, &pb, la) == 0;
}

/* Whether the sockets to the destination lead to the place where the disk is:
 * the same export at the same address, however the URIs spell them.  1 or 0; -1
 * with errno: that cannot be told, and a disk copied onto itself is spoiled.
 */
static int
leads_to_place (struct export *e, const char *destination, int fd)
{
  CLEANUP_FREE char *here = uri_export_name (place_uri (e));
  CLEANUP_FREE char *there = uri_export_name (destination);
  int socks[1];
  int same, error;

  if (here == NULL || there == NULL)
    return -1;
  if (strcmp (here, there) != 0)
    return 0;
  if (relay_sockets (place_relay (e), socks, 1) == 0)
    return errno != 0 ? -1 : 0;
  same = same_peer (socks[0], fd);
  error = errno;
  close (socks[0]);
  errno = error;
  return same;
}

static int
fail_is_there (struct call *call)
{
  call_fail (call, "AlreadyThere", "the disk is at %s already",
             place_is_remote (call->export) ? place_uri (call->export)
                                            : URI_LOCAL);
  return -1;
}

static int
check_not_there (struct call *call, const char *destination, int fd)
{
  const int r = place_is_remote (call->export)
                  ? leads_to_place (call->export, destination, fd)
                  : 0;

  if (r == 1)
    return fail_is_there (call);
  if (r == -1)
    call_fail (call, "Failed",
               "whether the disk is at %s already cannot be told: %s",
               destination, strerror (errno));
  return r;
}

/* The disk is in a remote place: may it go on from there? */
static bool
may_leave (struct call *call, const char *destination)
{
  struct export *e = call->export;
  const char *uri = place_uri (e);
  struct relay_status s;

  if (strcmp (destination, uri) == 0)
    return fail_is_there (call) == 0;
  if (strlen (uri) > RECORD_SOURCE_MAX) {
    call_fail (call, "BadArgument",
               "the URI of the place that the disk is to leave has more than "
               "%d bytes, and the state file has no room for it",
               RECORD_SOURCE_MAX);
    return false;
  }
  if (place_relay (e) != NULL)
    relay_get_status (place_relay (e), &s);
  if (place_relay (e) != NULL && !s.held)
    return true;
  call_fail (call, "WrongOwner",
             "the proxy is not connected to %s, where the disk is: "
             "'nbdmigrate reopen' with destination=URI tells where it is now",
             uri);
  return false;
}

/* Whether a session may begin (R16). */
static bool
may_begin (struct call *call, const char *destination)
{
  struct export *e = call->export;
  const enum owner owner = tracker_owner (e->tracker);

  if (e->session.client) {
    call_fail (call, "SessionBusy",
               e->session.client == call->client
                 ? "this connection is the session of the disk already"
                 : "another migration of this disk is running");
    return false;
  }
  if (e->session.reopening) {
    call_fail (call, "SessionBusy", "the disk is being reopened just now");
    return false;
  }
  if (owner != OWNER_SOURCE && owner != OWNER_DESTINATION) {
    call_fail (call, "WrongOwner",
               "the disk cannot be moved from here: its owner is \"%s\", and "
               "nobody is served",
               owner_name (owner));
    return false;
  }
  if (uri_is_local (destination) && !place_is_remote (e))
    return fail_is_there (call) == 0;
  if (uri_is_local (destination) && !local_has_shared (&e->local)) {
    call_fail (call, "BadDestination",
               "the proxy has not opened its local image");
    return false;
  }
  return !place_is_remote (e) || may_leave (call, destination);
}

/* A time is waited for, and nothing tells of its end. */
static void
nap (void)
{
  nanosleep (&(struct timespec){ .tv_nsec = SLICE_MS * 1000000L }, NULL);
}

/* R1: until every request that passed before has ended.  R17: and until no
 * write of a migration that an earlier run of this proxy saw begin, and not
 * end, can land any more; nor one of a guest's at the source, which is waited
 * for so long only (place_takes_over).  The session lock is dropped meanwhile.
 * False after call_fail, or if nobody is there.
 */
static bool
wait_settled (struct call *call)
{
  struct export *e = call->export;
  const int64_t until_ms = clock_ms () + PLACE_QUIET_MAX_MS;
  bool settled = false;

  do {
    pthread_mutex_unlock (&e->session.lock);
    if (settled)
      nap ();
    settled = tracker_wait_settled (e->tracker, SLICE_MS);
    call->gone = client_is_gone (call->client);
    pthread_mutex_lock (&e->session.lock);
    if (call->gone || !call_is_session (call))
      return false;
  } while (!settled || owner_quiet_ms (e) > 0 ||
           (place_takes_over (e) && clock_ms () < until_ms));
  e->must_settle = false;
  return true;
}

/* That this destination may have been written to must survive a restart of the
 * proxy (R18).
 */
static int
record_destination (struct call *call)
{
  struct export *e = call->export;

  if (owner_record_history (e) == 0 &&
      owner_record (e, OWNER_SOURCE, RECORD_END_INTERRUPTED) ==
        OWNER_RECORDED) {
    audit_begin (e);
    return 0;
  }
  session_end (e);
  call_fail (call, "Failed",
             "the state file could not be written; nbdkit's own messages say "
             "why");
  return -1;
}

/* What 'begin' has brought about. */
struct begun {
  bool resumed;
  bool shared;            /* the memory that was sent is used, too */
  const char *shared_why; /* not; static */
};

/* Without it the client reads by NBD, so that is no error. */
static void
share_memory (struct call *call, int fd, struct begun *begun)
{
  begun->shared_why = fd == -1
                        ? "it did not come with the command"
                        : shared_reads_begin (&call->export->shared_reads, fd,
                                              client_pid (call->client));
  begun->shared = begun->shared_why == NULL;
}

/* The destination of the session, as the client describes it. */
static int
get_destination (struct call *call, struct session_request *request)
{
  if (call_string (call, "destination", true, &request->destination) == -1 ||
      call_u64 (call, "block_bytes", false, &request->block_bytes) == -1)
    return -1;
  if (!uri_is_nbd (request->destination) &&
      !uri_is_local (request->destination))
    call_fail (call, "BadArgument", "\"destination\": %s is no NBD URI",
               request->destination);
  else if (strlen (request->destination) > DESTINATION_MAX)
    call_fail (call, "BadArgument", "\"destination\" is longer than %d bytes",
               DESTINATION_MAX);
  else if (!nbd_minimum_is_valid (request->block_bytes))
    call_fail (call, "BadArgument",
               "\"block_bytes\": %llu is no minimum block of an NBD server, "
               "which is a power of two of at most %u",
               (unsigned long long)request->block_bytes, NBD_MINIMUM_MAX);
  else
    return 0;
  return -1;
}

/* Check the arguments and make the client the session. */
static int
begin_session (struct call *call, struct begun *begun)
{
  struct session_request request = { .promise = "", .block_bytes = 1 };
  struct session_sockets sockets;
  CLEANUP_CLOSE int memory = -1;
  uint64_t nr_source = 0;
  bool shared = false;

  if (get_destination (call, &request) == -1 ||
      call_string (call, "promise", false, &request.promise) == -1 ||
      call_bool (call, "restart", false, &request.restart) == -1 ||
      call_bool (call, "incremental", false, &request.incremental) == -1 ||
      call_u64 (call, "source_sockets", false, &nr_source) == -1 ||
      call_bool (call, "shared_memory", false, &shared) == -1)
    return -1;
  if (!may_begin (call, request.destination))
    return -1;
  if (take_sockets (call, &sockets, nr_source, shared ? &memory : NULL) == -1)
    return -1;
  if (check_not_there (call, request.destination, sockets.fds[0]) == -1) {
    drop_sockets (&sockets);
    return -1;
  }
  if (session_begin (call->export, call->client, &request, &sockets,
                     &begun->resumed) == -1)
    return -1;
  if (shared)
    share_memory (call, memory, begun);
  if (uri_is_local (request.destination))
    __atomic_store_n (&call->export->local.writer, client_pid (call->client),
                      __ATOMIC_SEQ_CST);
  return record_destination (call);
}

static const char *
past_name (enum history_past past)
{
  static const char *const names[] = {
    [PAST_NOTHING] = "nothing",
    [PAST_LATEST] = "latest",
    [PAST_UNKNOWN] = "unknown",
  };

  return names[past];
}

/* Where another copy would lack something (R20).  NULL: no memory; with some of
 * them missing such a copy would be taken for the one that has it all.
 */
static json_t *
lately_places (const struct lately *l)
{
  json_t *places = json_array ();

  for (size_t i = 0; i < l->n; i++)
    if (json_array_append_new (
          places, json_integer ((json_int_t)l->offsets[i])) == -1) {
      json_decref (places);
      return NULL;
    }
  return places;
}

/* R14: from before the first lease.  What comes later costs another copy of
 * what was copied until then, so nobody has to wait for long.
 */
static bool
wait_for_look (struct call *call)
{
  struct export *e = call->export;

  pthread_mutex_unlock (&e->session.lock);
  durable_map_wait_looked (e, LOOK_MS);
  call->gone = client_is_gone (call->client);
  pthread_mutex_lock (&e->session.lock);
  return !call->gone && call_is_session (call);
}

json_t *
command_begin (struct call *call)
{
  struct export *e = call->export;
  struct begun begun = { .shared_why = "it was not asked for" };
  struct tracker_status s;

  if (begin_session (call, &begun) == -1 || !wait_settled (call) ||
      !wait_for_look (call))
    return NULL;
  tracker_get_status (e->tracker, &s);
  return json_pack ("{s:b, s:s, s:I, s:I, s:I, s:I, s:b, s:s?, s:o}", "resumed",
                    (int)begun.resumed, "past", past_name (e->session.past),
                    "epoch", (json_int_t)s.epoch, "chunk_bytes",
                    (json_int_t)s.chunk_bytes, "dirty_bytes",
                    (json_int_t)s.dirty_bytes, "remaining_bytes",
                    (json_int_t)s.remaining_bytes, "shared_memory",
                    (int)begun.shared, "shared_memory_why", begun.shared_why,
                    "lately", lately_places (&e->session.lately));
}

/* The new sockets, and nothing of the old ones is sent any more. */
static int
replace_sockets (struct call *call)
{
  struct export *e = call->export;
  struct session_sockets sockets;

  if (take_sockets (call, &sockets, 0, NULL) == -1)
    return -1;
  session_replace_sockets (e, &sockets);
  if (owner_record_history (e) == 0)
    return 0;
  call_fail (call, "Failed",
             "the history of the destinations could not be written; nbdkit's "
             "own messages say why");
  return -1;
}

/* There is no connection for now; what came with the command is of none. */
static void
lose_sockets (struct call *call)
{
  int fds[PROTOCOL_FDS_MAX];
  size_t n = line_reader_take_fds (&call->client->reader, fds);

  while (n > 0)
    close (fds[--n]);
  session_sockets_give_up (call->export, NULL);
}

/* R6a: the epoch first.  Whatever fails after that, what was copied and not
 * flushed must not count.
 */
json_t *
command_lost (struct call *call)
{
  struct export *e = call->export;
  uint64_t again_bytes;
  const uint64_t epoch = tracker_lost (e->tracker, &again_bytes);
  bool away = false;

  mirroring_lost (e);
  if (call_bool (call, "away", false, &away) == -1)
    return NULL;
  if (away)
    lose_sockets (call);
  else if (replace_sockets (call) == -1)
    return NULL;
  return json_pack ("{s:I, s:I}", "epoch", (json_int_t)epoch,
                    "dirty_again_bytes", (json_int_t)again_bytes);
}

/* Of connections to this proxy that were made after 'begin'. */
json_t *
command_source_sockets (struct call *call)
{
  struct session_sockets sockets;

  if (take_sockets (call, &sockets, 0, NULL) == -1)
    return NULL;
  if (sockets.ledger == NULL &&
      session_sockets_add_source (call->export, sockets.fds, sockets.nr_fds))
    return json_object ();
  drop_sockets (&sockets);
  return call_fail (call, "BadArgument",
                    "there is a ledger among the sockets, or they are more "
                    "than %d together with those that came before",
                    PROTOCOL_FDS_MAX);
}

static int
keep_progress (struct call *call)
{
  struct session *s = &call->export->session;
  json_t *progress = json_object_get (call->args, "progress");

  if (progress == NULL)
    return 0;
  if (!json_is_object (progress) ||
      json_dumpb (progress, NULL, 0, JSON_COMPACT) > PROGRESS_MAX) {
    call_fail (call, "BadArgument",
               "\"progress\" must be an object of at most %d bytes",
               PROGRESS_MAX);
    return -1;
  }
  json_decref (s->progress);
  s->progress = json_incref (progress);
  return 0;
}

json_t *
command_publish (struct call *call)
{
  struct session *s = &call->export->session;
  json_t *wishes;

  if (keep_progress (call) == -1)
    return NULL;
  if (session_sockets_note_delays (call->export))
    owner_update_delay (call->export);
  wishes = s->wishes ? s->wishes : json_object ();
  s->wishes = NULL; /* handed over once */
  return json_pack ("{s:o}", "wishes", wishes);
}

/* Whoever ends it itself writes no more. */
json_t *
command_end (struct call *call)
{
  bool untouched = false;

  if (call_bool (call, "untouched", false, &untouched) == -1)
    return NULL;
  call->export->session.promised = true;
  if (untouched)
    session_end_untouched (call->export);
  else
    session_end (call->export);
  return json_object ();
}
