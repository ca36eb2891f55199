/* SPDX-License-Identifier: BSD-3-Clause */
/* The filter's parameters.  Written while the command line is read, constant
 * afterwards.
 */

#ifndef NBDMIGRATE_CONFIG_H
#define NBDMIGRATE_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

struct config {
  char *dir;                   /* migrate-dir, absolute */
  char *control;               /* the control socket in it */
  char *mark;                  /* migrate-mark, absolute, or NULL: none */
  uint64_t chunk_bytes;        /* migrate-chunk, or 0: chosen for each disk */
  unsigned max_gate_ms;        /* migrate-max-gate */
  unsigned reconnect_ms;       /* migrate-reconnect; for the relay */
  unsigned request_timeout_ms; /* migrate-request-timeout; 0: never */
  unsigned network_timeout_ms; /* migrate-network-timeout */
  bool named_exports;          /* migrate-named-exports */
  bool require_tls;            /* migrate-require-tls */
  bool state_sync;             /* migrate-state-sync; for the owner record */
  bool disconnect;             /* migrate-disconnect: guests, at a handover */
};

extern struct config config;
extern const char config_help[];

/* One key=value.  1: it was ours, 0: it is not ours, -1: error (reported): its
 * value cannot be, or it came before.
 */
extern int config_parameter (const char *key, const char *value);

/* Check that all is there.  -1: error (reported). */
extern int config_complete (void);

extern void config_free (void);

/* The chunk size for a disk. */
extern uint64_t config_chunk_bytes (uint64_t disk_bytes);

#endif /* NBDMIGRATE_CONFIG_H */
