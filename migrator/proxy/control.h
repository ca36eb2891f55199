/* SPDX-License-Identifier: BSD-3-Clause */
/* Client side of the control protocol, in the event loop.
 *
 * Commands are pipelined and answered in order.  Every command gets exactly
 * one answer: what the filter said, or the class CONTROL_LOST when the
 * connection ended first.
 */

#ifndef NBDMIGRATE_CONTROL_H
#define NBDMIGRATE_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/loop.h"
#include "protocol.h"

#define CONTROL_LOST "Lost"

struct control_answer {
  bool done;
  json_t *value;     /* the "return" object; NULL on error */
  char *error_class; /* NULL on success */
  char *desc;
};

/* Release what an answer holds and make it ready for the next command. */
extern void control_answer_clear (struct control_answer *a);
#define CLEANUP_ANSWER __attribute__ ((cleanup (control_answer_clear)))

/* Runs from the loop; the answer is cleared when it returns. */
typedef void control_callback (void *opaque, const struct control_answer *a);

struct control;

/* Connect to the socket and read the greeting, waiting for at most timeout_ms.
 * NULL with *why (the caller frees it) on error; no memory if that is NULL,
 * too.
 */
#define CONTROL_GREETING_MS 5000
#define CONTROL_NO_GREETING "the proxy did not greet in time"
extern struct control *control_open (struct loop *loop, const char *path,
                                     int timeout_ms, char **why);
extern void control_close (struct control *c);

/* The exports in use, as the greeting named them: an array of strings. */
extern const json_t *control_exports (const struct control *c);

/* For a command that has none. */
#define CONTROL_NO_ARGUMENTS json_object ()

/* Send a command.  'arguments' is stolen; without memory for them (NULL) the
 * program ends (no-memory.h), as such a command would ask for something else.
 * The descriptors stay the caller's.  The callback gets the answer.
 */
extern void control_send (struct control *c, const char *command,
                          json_t *arguments, const int *fds, size_t nr_fds,
                          control_callback *callback, void *opaque);

/* The same, with the answer stored in *a, which must be clear and live until
 * a->done is true.
 */
extern void control_ask (struct control *c, const char *command,
                         json_t *arguments, struct control_answer *a);

/* For programs that have nothing else to do: ask and run the loop until the
 * answer is there or timeout_ms have passed (then as CONTROL_LOST).
 */
extern void control_wait (struct control *c, const char *command,
                          json_t *arguments, int timeout_ms,
                          struct control_answer *a);

/* Treat the connection as ended if its oldest command has waited for longer
 * than that many microseconds: all commands get CONTROL_LOST.
 */
extern void control_check_timeout (struct control *c, int64_t now_us,
                                   int64_t timeout_us);

/* Treat the connection as ended, for this reason. */
extern void control_give_up (struct control *c, const char *why);

/* Why the connection ended, NULL while it lives. */
extern const char *control_broken (const struct control *c);

#endif /* NBDMIGRATE_CONTROL_H */
