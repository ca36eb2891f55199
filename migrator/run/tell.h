/* SPDX-License-Identifier: BSD-3-Clause */
/* How far it is, in lines that stay: on SIGUSR1, and with --progress=log. */

#ifndef NBDMIGRATE_TELL_H
#define NBDMIGRATE_TELL_H

#include <stdint.h>

struct migration;

extern void tell_progress (struct migration *m);

/* In each round of the loop. */
extern void tell_run (struct migration *m, int64_t now_us);

#endif /* NBDMIGRATE_TELL_H */
