/* SPDX-License-Identifier: BSD-3-Clause */
/* The control server.
 *
 * One thread accepts, one serves each connection.  A client may be broken or
 * hostile, as far as its user id lets it: what it does must never disturb the
 * guest or a session.  So
 *
 *   - there are at most CLIENTS_MAX of them besides the sessions; to admit
 *     another, the one that has been idle the longest is disconnected;
 *   - each may send a burst of commands and is slowed down then;
 *   - only one at a time may have a long line parsed;
 *   - descriptors that they sent and nobody took are limited for all together,
 *     and if there are too many, who holds the most of them is disconnected;
 *   - sending to them is bounded by a timeout.
 *
 * A thread that has ended puts its client on a list of the dead, where the
 * accepting thread, or control_stop, joins it.
 */

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <nbdkit-filter.h>

#include "cleanup.h"
#include "base/asker.h"
#include "base/clock.h"
#include "commands.h"
#include "control.h"
#include "export/export.h"
#include "export/mark.h"
#include "session.h"

#define CLIENTS_MAX (PROTOCOL_DISKS_MAX + 28)
#define PENDING_FDS_MAX (2 * PROTOCOL_FDS_MAX) /* all clients together */
#define SEND_TIMEOUT_S 5
#define LONG_LINE 65536 /* bytes */
#define BURST 500       /* commands */
#define WATCH_MS 100
#define PER_SECOND 200 /* commands, after the burst */

/* The control lock: for the lists, what struct client says, and the counters.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t client_ended = PTHREAD_COND_INITIALIZER;
static struct client *live, *dead;
static size_t others;      /* clients that are alive and no session */
static size_t pending_fds; /* of all clients */

static pthread_mutex_t long_line_lock = PTHREAD_MUTEX_INITIALIZER;
static bool stopping; /* atomic */

static int listen_fd = -1;
static int stop_fd = -1; /* eventfd, readable when stopping */
static pthread_t accept_thread;
static bool started;

static bool
is_stopping (void)
{
  return __atomic_load_n (&stopping, __ATOMIC_ACQUIRE);
}

/* ---- Lists; the control lock must be held ------------------------------ */

static void
list_add (struct client **head, struct client *c)
{
  c->prev = NULL;
  c->next = *head;
  if (c->next)
    c->next->prev = c;
  *head = c;
}

static void
list_remove (struct client **head, struct client *c)
{
  if (c->prev)
    c->prev->next = c->next;
  else
    *head = c->next;
  if (c->next)
    c->next->prev = c->prev;
}

/* Its thread notices. */
static void
evict (struct client *c)
{
  if (!c->evicted)
    shutdown (c->fd, SHUT_RDWR);
  c->evicted = true;
}

/* ---- What the commands need -------------------------------------------- */

bool
client_is_gone (struct client *c)
{
  struct pollfd pfd = { .fd = c->fd, .events = POLLRDHUP };

  if (is_stopping ())
    return true;
  return poll (&pfd, 1, 0) == 1 &&
         (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

void
client_disconnect (struct client *c)
{
  shutdown (c->fd, SHUT_RDWR);
}

static struct ucred
credentials (const struct client *c)
{
  struct ucred cred;
  socklen_t len = sizeof cred;

  return getsockopt (c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1
           ? (struct ucred){ 0 }
           : cred;
}

pid_t
client_pid (const struct client *c)
{
  return credentials (c).pid;
}

bool
control_has_clients (void)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  return live != NULL;
}

bool
control_has_process (pid_t pid)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  for (const struct client *c = live; c; c = c->next)
    if (!c->watching && client_pid (c) == pid)
      return true;
  return false;
}

int
client_process (const struct client *c)
{
  const pid_t pid = client_pid (c);

  return pid == 0 ? -1 : (int)syscall (SYS_pidfd_open, pid, 0);
}

void
client_set_session (struct client *c, bool session)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  if (c->session == session)
    return;
  c->session = session;
  c->was_session |= session;
  c->idle_since_ms = clock_ms ();
  others += session ? -1 : 1;
  pthread_cond_broadcast (&client_ended); /* there may be room now */
}

static bool
has_session (struct client *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  return c->session;
}

/* ---- One client -------------------------------------------------------- */

/* Who has sent the most descriptors that no command took; of several the one
 * that has been idle the longest.  The control lock must be held.
 */
static struct client *
find_hoarder (void)
{
  struct client *hoarder = NULL;

  for (struct client *c = live; c; c = c->next)
    if (!c->session && c->pending_fds > 0 &&
        (hoarder == NULL || c->pending_fds > hoarder->pending_fds ||
         (c->pending_fds == hoarder->pending_fds &&
          c->idle_since_ms < hoarder->idle_since_ms)))
      hoarder = c;
  return hoarder;
}

/* Count the descriptors that it sent and that nobody took.  If there are too
 * many, whoever holds the most pays for it.  False if it is this one.
 */
static bool
count_pending_fds (struct client *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  const size_t n = c->reader.nr_fds;
  const bool more = n > c->pending_fds;

  pending_fds += n - c->pending_fds;
  c->pending_fds = n;
  while (more && pending_fds > PENDING_FDS_MAX && !is_stopping ()) {
    struct client *hoarder = find_hoarder ();

    if (hoarder == NULL || hoarder == c)
      return false;
    evict (hoarder);
    pthread_cond_wait (&client_ended, &lock); /* bury */
  }
  return true;
}

static void
drop_pending_fds (struct client *c)
{
  int fds[PROTOCOL_FDS_MAX];
  const size_t n = line_reader_take_fds (&c->reader, fds);

  for (size_t i = 0; i < n; i++)
    close (fds[i]);
  count_pending_fds (c);
}

static void
complain (struct client *c, const char *what)
{
  CLEANUP_JSON json_t *error = protocol_error ("Protocol", "%s", what);

  if (error)
    protocol_send (c->fd, error, NULL, 0);
}

/* How long to wait for the next command: -1 for ever, 0 if the session has
 * been silent for too long (R7).
 */
static int
patience_ms (struct client *c)
{
  int64_t left;

  if (!has_session (c))
    return -1;
  left = c->last_line_ms + PROTOCOL_SILENCE_MS - clock_ms ();
  return left > 0 ? left : 0;
}

/* One that the peer has closed is nothing special. */
static void
say_broken (const char *doing)
{
  if (errno != EPIPE && errno != ECONNRESET)
    nbdkit_error ("migrate: control: %s: %m; the connection is closed", doing);
}

/* Wait for bytes and read them.  False: the connection is over. */
static bool
receive (struct client *c)
{
  struct pollfd pfd = { .fd = c->fd, .events = POLLIN };
  const int patience = patience_ms (c);
  const int r = poll (&pfd, 1, patience);
  ssize_t n;

  if (r == 0 && patience_ms (c) == 0) {
    nbdkit_debug ("migrate: control: the session was silent for %d s",
                  PROTOCOL_SILENCE_MS / 1000);
    return false;
  }
  if (r == -1 && errno != EINTR) {
    say_broken ("waiting for a command");
    return false;
  }
  if (r <= 0)
    return true;
  n = line_reader_receive (&c->reader, c->fd);
  if (n == -1 && errno == EMSGSIZE)
    complain (c, "the line is longer than 1 MiB, or carries more than 64 "
                 "descriptors, or more than this nbdkit may open (ulimit -n)");
  if (!count_pending_fds (c)) {
    complain (c, "too many descriptors that no command takes");
    return false;
  }
  if (n == -1 && errno != EAGAIN && errno != EINTR && errno != EMSGSIZE)
    say_broken ("receiving a command");
  return n > 0 || (n == -1 && (errno == EAGAIN || errno == EINTR));
}

/* A client that is no session may send BURST commands, and PER_SECOND after
 * that: answering must not cost the guest its processor.
 */
static void
slow_down (struct client *c)
{
  const int64_t now = clock_ms ();
  const int64_t more = (now - c->allowance_ms) * PER_SECOND / 1000;

  if (more > 0) {
    c->allowance = c->allowance + more > BURST ? BURST : c->allowance + more;
    c->allowance_ms = now;
  }
  if (c->allowance > 0)
    c->allowance--;
  else {
    struct pollfd pfd = { .fd = stop_fd, .events = POLLIN };

    poll (&pfd, 1, 1000 / PER_SECOND);
  }
}

static void
set_idle (struct client *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  c->idle_since_ms = clock_ms ();
}

/* Returns false if the connection is to be closed. */
static bool
serve_line (struct client *c, const char *line)
{
  const bool session = has_session (c);
  const bool alone = !session && strlen (line) > LONG_LINE;
  bool go_on = true;
  CLEANUP_JSON json_t *answer = NULL;

  if (!session)
    slow_down (c);
  if (alone)
    pthread_mutex_lock (&long_line_lock);
  answer = command_execute (c, line, &go_on);
  if (alone)
    pthread_mutex_unlock (&long_line_lock);

  count_pending_fds (c);
  if (answer == NULL && go_on)
    nbdkit_error (
      "migrate: control: out of memory: there is no answer, and the "
      "connection is closed");
  if (answer == NULL)
    return false; /* nobody is there any more, if it was not said */
  if (protocol_send (c->fd, answer, NULL, 0) == -1) {
    say_broken ("answering");
    return false;
  }
  c->last_line_ms = clock_ms ();
  /* 'end' and 'reopen' may have changed the owner, and no guest waits. */
  if (c->export && !has_session (c))
    mark_follow (c->export, session);
  if (has_session (c))
    throttle_renew (&c->export->throttle, PROTOCOL_SILENCE_MS); /* R7 */
  set_idle (c);
  return go_on;
}

static bool
serve_lines (struct client *c)
{
  bool go_on = true;

  while (go_on && !is_stopping ()) {
    CLEANUP_FREE char *line = line_reader_next (&c->reader);

    if (line == NULL) {
      go_on = errno == 0;
      if (!go_on)
        say_broken ("reading a command");
      break;
    }
    go_on = serve_line (c, line);
  }
  /* Descriptors come with the first bytes of their line: what is left when no
   * line has begun belongs to a line that did not want them.
   */
  if (c->reader.nr_fds > 0 && c->reader.start == c->reader.used)
    drop_pending_fds (c);
  return go_on;
}

/* What a session left unanswered is looked after by the thread that served it,
 * which has nothing else to do; so it is known when the answer came.
 */
static void
watch_what_is_left (struct client *c)
{
  struct pollfd pfd = { .fd = stop_fd, .events = POLLIN };

  while (!is_stopping () && session_watch (c->export))
    poll (&pfd, 1, WATCH_MS);
}

/* It is no client any more. */
static void
leave (struct client *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  close (c->fd);
  c->fd = -1;
  c->watching = true;
  others--;
  pthread_cond_broadcast (&client_ended);
}

static void
bury (struct client *c)
{
  const bool session = has_session (c);

  if (c->export)
    session_leave (c->export, c);
  drop_pending_fds (c);
  line_reader_destroy (&c->reader);
  leave (c);
  if (c->export) /* also of a 'reopen' whose answer nobody waited for */
    mark_follow (c->export, session);
  if (c->export && c->was_session)
    watch_what_is_left (c);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  list_remove (&live, c);
  list_add (&dead, c);
  pthread_cond_broadcast (&client_ended);
}

static void *
client_loop (void *arg)
{
  struct client *c = arg;
  const struct ucred asker = credentials (c);
  CLEANUP_JSON json_t *greeting = command_greeting ();

  asker_set (asker.pid, asker.uid);
  if (greeting && protocol_send (c->fd, greeting, NULL, 0) == 0)
    while (!is_stopping () && receive (c) && serve_lines (c))
      ;
  bury (c);
  return NULL;
}

/* ---- Admitting clients: the accepting thread --------------------------- */

static void
join_dead (void)
{
  struct client *c;

  pthread_mutex_lock (&lock);
  while ((c = dead) != NULL) {
    list_remove (&dead, c);
    pthread_mutex_unlock (&lock);
    pthread_join (c->thread, NULL);
    free (c);
    pthread_mutex_lock (&lock);
  }
  pthread_mutex_unlock (&lock);
}

/* The control lock must be held. */
static void
evict_one (void)
{
  struct client *victim = NULL;

  for (struct client *c = live; c; c = c->next)
    if (!c->session && !c->evicted && !c->watching &&
        (victim == NULL || c->idle_since_ms <= victim->idle_since_ms))
      victim = c;
  if (victim == NULL)
    return; /* somebody is on the way out already */
  evict (victim);
}

static void
make_room (void)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  while (others >= CLIENTS_MAX && !is_stopping ()) {
    evict_one ();
    pthread_cond_wait (&client_ended, &lock);
  }
}

static bool
peer_is_allowed (int fd)
{
  struct ucred cred;
  socklen_t len = sizeof cred;

  if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1) {
    nbdkit_error ("migrate: control: whose a connection is cannot be told: %m");
    return false;
  }
  if (cred.uid == 0 || cred.uid == geteuid ())
    return true;
  nbdkit_debug ("migrate: control: refused user %ld", (long)cred.uid);
  return false;
}

/* Signals are for nbdkit's own threads. */
static int
create_thread (pthread_t *thread, void *(*f) (void *), void *arg)
{
  sigset_t all, old;
  int r;

  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  r = pthread_create (thread, NULL, f, arg);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  return r;
}

static struct client *
client_new (int fd)
{
  struct client *c = calloc (1, sizeof *c);

  if (c == NULL) {
    nbdkit_error ("migrate: control: a connection is refused: %m");
    return NULL;
  }
  c->fd = fd;
  c->allowance = BURST;
  c->allowance_ms = c->idle_since_ms = c->last_line_ms = clock_ms ();
  line_reader_init (&c->reader);
  return c;
}

static int
start_client (struct client *c)
{
  errno = create_thread (&c->thread, client_loop, c);
  if (errno == 0)
    return 0;
  nbdkit_error ("migrate: control: a connection is refused: pthread_create: "
                "%m");
  return -1;
}

static void
admit (int fd)
{
  const struct timeval timeout = { .tv_sec = SEND_TIMEOUT_S };
  struct client *c = NULL;

  setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
  if (peer_is_allowed (fd))
    c = client_new (fd);
  if (c == NULL) {
    close (fd);
    return;
  }
  make_room ();

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  if (is_stopping () || start_client (c) == -1) {
    close (fd);
    free (c);
    return;
  }
  list_add (&live, c);
  others++;
}

static void *
accept_loop (void *arg)
{
  struct pollfd pfds[] = { { .fd = stop_fd, .events = POLLIN },
                           { .fd = listen_fd, .events = POLLIN } };

  while (!is_stopping ()) {
    int fd;

    if (poll (pfds, 2, -1) == -1 || !(pfds[1].revents & POLLIN))
      continue;
    fd = accept4 (listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    join_dead ();
    if (fd != -1)
      admit (fd);
    else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
      poll (pfds, 1, 100); /* out of descriptors or memory: not in a loop */
  }
  return arg;
}

/* ---- Starting and stopping --------------------------------------------- */

int
control_start (int fd)
{
  int r;

  listen_fd = fd;
  stop_fd = eventfd (0, EFD_CLOEXEC);
  if (stop_fd == -1) {
    nbdkit_error ("migrate: eventfd: %m");
    return -1;
  }
  r = create_thread (&accept_thread, accept_loop, NULL);
  if (r != 0) {
    errno = r;
    nbdkit_error ("migrate: pthread_create: %m");
    return -1;
  }
  started = true;
  return 0;
}

/* Tell all threads; wake them from poll, send and make_room. */
static void
tell_to_stop (void)
{
  const uint64_t one = 1;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);
  __atomic_store_n (&stopping, true, __ATOMIC_RELEASE);
  if (write (stop_fd, &one, sizeof one) != sizeof one)
    nbdkit_debug ("migrate: eventfd: %m");
  for (struct client *c = live; c; c = c->next)
    if (!c->watching)
      shutdown (c->fd, SHUT_RDWR);
  pthread_cond_broadcast (&client_ended);
}

static void
wait_for_clients (void)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&lock);

  while (live)
    pthread_cond_wait (&client_ended, &lock);
}

void
control_stop (void)
{
  if (started) {
    tell_to_stop ();
    pthread_join (accept_thread, NULL);
    wait_for_clients ();
    join_dead ();
    started = false;
  }
  if (stop_fd != -1)
    close (stop_fd);
  stop_fd = -1;
}
