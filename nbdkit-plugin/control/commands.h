/* SPDX-License-Identifier: BSD-3-Clause */
/* The commands of the control protocol: from a line to an answer. */

#ifndef NBDMIGRATE_COMMANDS_H
#define NBDMIGRATE_COMMANDS_H

#include <stdbool.h>

#include <jansson.h>

struct client;

/* The line that greets a new client, or NULL: no memory. */
extern json_t *command_greeting (void);

/* Carry out one line of a client, in its thread.  Returns the answer (a new
 * reference).  *go_on becomes false if the connection is to be closed after it.
 * NULL: with *go_on false there is nobody to answer, otherwise no memory.
 */
extern json_t *command_execute (struct client *client, const char *line,
                                bool *go_on);

#endif /* NBDMIGRATE_COMMANDS_H */
