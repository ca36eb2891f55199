/* SPDX-License-Identifier: BSD-3-Clause */
/* What a server says of itself in its description. */

#ifndef NBDMIGRATE_REMOTE_PEER_H
#define NBDMIGRATE_REMOTE_PEER_H

#include <stdbool.h>

#define REMOTE_PEER_ID_SIZE 17

struct remote_peer {
  char id[REMOTE_PEER_ID_SIZE]; /* of the disk, "": it is no proxy */
  bool relays;                  /* a proxy that relays to another server */
};

#endif /* NBDMIGRATE_REMOTE_PEER_H */
